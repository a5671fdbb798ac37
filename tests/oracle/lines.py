"""What the lines of a random script, and the edits between runs, are made of.

Two kinds of files keep the truth a truth. Sources (src/) change by edits only; work files (w, d/p, …) by
edits and commands. The time of a work file is that of the moment it was written, so nothing looks at one
except to compare it with a source, which is always older; and where something prints or stores a time,
it is a source's. Directories are read in some order or other, so what prints or stores names sorts them.
"""
SOURCES = ["src/a.t", "src/b.t", "src/c.t", "src/sub/d.t"]
WORK = ["w", "x", "y", "d/p", "d/q", "out/r"]
LINKS = ["src/a.t", "w", "x", "d", "none", "src", "d/p"]
TEXTS = ["one", "two", "2", "three\\nlines\\nof text", "", "o o o\\n", "tw\\tabs\\n", "x" * 700]

# {s} {s2}: sources, {r} {r2}: anything that may be read, {w} {w2}: work files, {h}: where a link leads,
# {t}: a text, {acts}: the helper, {n}: a script or target further down.
SHELL = r"""
cat {r} > {w}
cat {r} >> {w}
cat {r} {r2}
cat < {r} > {w}
cp {r} {w}
cp -p {s} {w}
cp -f {r} {w}
cp -n {r} {w}
cp -P {r} {w}
cp -p {w} {w2}
cp -u {s} {w}
cp -l {r} {w}
cp --backup=simple {r} {w}
cp -r src out/copy
cp -a src out/same
rm -rf out/copy out/same
mv {w} {w2}
mv -n {w} {w2}
mv -f {w} {w2}
rm -f {w}
rm {w}
rm -rf d
rmdir d
mkdir d
mkdir -p d out
[ -d d ] || mkdir d
ln {r} {w}
ln -f {r} {w}
ln -s {h} {w}
ln -sf {h} {w}
ln -sfn {h} {w}
touch {w}
touch -c {w}
touch -d @1000000000 {w}
touch -r {s} {w}
chmod 600 {w}
chmod +x {w}
chmod u-w {w}
chmod 750 d
echo {t} > {w}
printf '{t}' >> {w}
: > {w}
[ -f {r} ] && echo file
[ -e {r} ] || echo none
[ -d d ] && echo dir
[ -L {r} ] && echo link
[ -x {r} ] && echo can
[ -w {r} ] && echo may
[ -s {r} ] && echo s
[ {r} -ef {r2} ] && echo same
[ {s} -nt {s2} ] && echo newer
[ {w} -nt {s} ] && echo newer || echo not
test -f {w} || cp {s} {w}
cmp -s {r} {w} || cp {r} {w}
if [ -f {w} ]; then cat {w}; else cp {r} {w}; fi
ls
ls -A d src out
ls -p .
echo src/*.t d/*
for i in d/* src/*; do [ -f "$i" ] && echo $i; done
stat -c '%s %a %h %F' {r}
stat -c '%Y %n' {s}
ls -l {r} | cut -c 1-12
readlink {r}
readlink -f {r}
find . -name '*.t' -print | sort
l=$(find d src -type f | sort); echo "$l" > {w}
find src -newer {s} -type f | sort
find . -name '?' -perm -100 | sort
grep -r o src d | sort
grep -c o {r}
head -c 2 {r}
tail -n 1 {r}
wc -c {r}
sed -i s/o/0/ {w}
sed -n 1p {r} > {w}
sort -o {w} {r}
tee {w} < {r}
cmp {r} {r2}
diff -r src out/copy | sort
tr a-z A-Z < {r} > {w}
install -m 640 {r} {w}
install -D {r} out/deep/er/z
rm -rf out/deep
cat d/* src/* > {w}
tar cf {w} --sort=name src
tar cf t.tar --sort=name --mtime=@1 d src; rm -f t.tar
tar cf - --sort=name --mtime=@1 src | (cd out && tar xf -)
gzip -nc {r} > {w}
dd if={r} of={w} status=none
dd if={r} of={w} conv=notrunc status=none
printf x | dd of={w} seek=1 bs=1 conv=notrunc status=none
truncate -s 2 {w}
truncate -s 9000 {w}
(cd d && cat p > ../{w}; ls ..)
cd d && cat p; cd ..
(echo out; echo err >&2) > {w} 2>&1
echo err >&2; echo out; echo err >&2
x=$(cat {r}); echo "got $x"
exec 7< {r}; cat <&7; exec 7<&-
exec 8>> {w}; echo more >&8; cat {r} >&8; exec 8>&-
exec 9<> {w}; read l <&9; echo "$l" >&9; exec 9>&-
{ cat {r}; cat {r2}; echo end; } > {w}
{ read l; cat; } < {r}
head -c 1; cat
read l && echo "line $l"
cat {r} | tr a b | cat > {w}.n; mv {w}.n {w}
cat {r} | (read l; echo "$l"; cat) | sort
umask 077; echo {t} > {w}
cat {r} > out/k1 & cat {r2} > out/k2 & wait
{ sleep 0.01; cat {r} > out/k3; } & wait $!
t=$(mktemp); cat {r} > $t; cat $t > {w}; rm $t
t=$(mktemp -d); cp {r} $t/z && cat $t/z; rm -r $t
mkfifo p && rm p
cat <<E > {w}
for i in 1 2 3; do echo $i $SETTING; done > {w}
set -C; echo {t} > {w}; set +C
echo "setting $SETTING"
echo $0 $# "$@"
pwd | wc -l
trap 'echo bye' EXIT
sh -c 'cat {r}; exit 3'; echo $?
sh -c 'exec cat {r}'
sh -c 'cat {r} > {w}; false' || echo failed
env A=1 cat {r} > {w}
xargs cat < {r} 2> /dev/null
echo {r} {r2} | xargs -n 1 cat > {w}
awk '{ n += NF } END { print n }' {r}
{acts} read:{r} write:{w}:{t}
{acts} map:{r} stat:{r} lstat:{r} can:{r} readlink:{w}
{acts} readat:src:a.t enter:d:p list:d list:src
{acts} append:{w}:{t} read:{w}
{acts} over:{w}:{t} empty:{w2}:{t}
{acts} excl:{w}:{t} stat:{w}
{acts} patch:{w}:{t} size:{w2}:3
{acts} rename:{w}:{w2} read:{w2}
{acts} keep:{w}:{w2} unlink:{w}
{acts} link:{r}:{w} symlink:{w2}:{h} readlink:{w2}
{acts} mkdir:d list:d rmdir:d mkdir:d/e
{acts} mode:{w}:640 stat:{w} time:{w}:1100000000 now:{w2}
{acts} save:{w}:{t} read:{w}
{acts} fork:{r}:{w} read:{w}
{acts} threads:{r}:{w}
{acts} cat:{r} both:{r} cat:{r2}
{acts} stdin:{r} gone:{w} read:{w}
{acts} copy:{r}:{w} copy:{w}:{w2} exit:0
{acts} read:{r} exit:1
{n}
{n}
{n}
{n}
{n}
{n}
""".split("\n")[1:-1]
HERE = ["$(cat {r})", "{t} $SETTING", "E"]  # after `cat <<E`

DEAR = r"""
python3 -c "import os; print(sorted(os.listdir('src')), os.path.exists('{r}'))"
python3 -c "open('{w}', 'w').write(open('{s}').read().upper())"
python3 -c "import shutil; shutil.copy('{s}', '{w}'); print(len(open('{w}').read()))"
perl -pi -e 's/o/0/' {w}
perl -ne 'print uc' {r} > {w}
printf 'int f(void) { return 1; }\n' > m.c; gcc -c m.c -o out/m.o; [ -s out/m.o ] && echo built
git init -q g && (cd g && cp ../src/a.t . && git add a.t && git status --short); rm -rf g
""".split("\n")[1:-1]

# Recipes of a makefile: quiet, and each writes its own target only, as -j2 runs them side by side.
RECIPES = r"""
cat $^ > $@
cp $< $@
tr a-z A-Z < $< > $@
{acts} copy:$<:$@ > /dev/null
{acts} fork:$<:$@ > /dev/null
cat $< > $@.tmp && mv $@.tmp $@
rm -f $@; cat $^ > $@
sed s/o/0/ $< > $@
wc -c < $< > $@
cmp -s $< $@ || cp $< $@
test -f $@ || cat $< > $@
install -m 640 $< $@
ln -f $< $@
head -c 3 $< > $@; chmod 600 $@
cat $< > $@; echo $(SETTING) >> $@
cat $< > $@; ls src >> $@
cat $(wildcard src/*.t) > $@
sort -o $@ $<
""".split("\n")[1:-1]

EDITS = r"""
printf '{t}' > {s}
printf '{t}' > {s}
printf '{t}' >> {s}
tr 'a-z ' 'n-za-m_' < {s} > {s}~; mv {s}~ {s}
touch -r {s} ../ref; tr 'a-z' 'n-za-m' < {s} > ../new; cat ../new > {s}; touch -r ../ref {s}; rm ../ref ../new
touch {s}
touch -d @1200000000 {s}
touch -d @1300000000 {s}
touch src
chmod 600 {s}
chmod 755 {s}
chmod 644 {s}
chmod 400 {s}
chmod 700 src/sub
printf '{t}' > src/e.t
printf '{t}' > src/sub/e.t
rm -f src/e.t
rm -f {s}
mkdir -p src/sub/new
rm -rf src/sub
mkdir -p src/sub; printf '{t}' > src/sub/d.t
rm -f {s}; mkdir {s}
rm -rf {s}; printf '{t}' > {s}
rm -rf {s}; ln -s {h} {s}
rm -rf {s}; ln -s a.t {s}
rm -rf {s}; ln {s2} {s}
cp {s2} {s}
mv {s} src/moved; mv {s2} {s}; mv src/moved {s2}
ln -sfn src/sub d
rm -rf d
rm -rf d; mkdir d
rm -rf d out; mkdir d out
mkdir -p d out
chmod 755 d
echo hand > {w}
printf '{t}' > {w}
printf '{t}' >> {w}
rm -f {w}
rm -f {w}
rm -rf {w}; mkdir {w}
rm -rf {w}; ln -s {h} {w}
rm -rf {w}; ln {s} {w}
rm -f out/twin; ln {w} out/twin
touch {w}
touch -d @1000000000 {w}
touch -d @1400000000 {w}
chmod 600 {w}
chmod 755 {w}
chmod 444 {w}
cp {w} {w2}
cp -p {w} {w2}
mv {w} {w2}
rm -f {w}; ln -s {w2} {w}
rm -rf w x y d out t.tar m.c p g; mkdir d out
rm -rf w x y d out t.tar m.c p g; mkdir d out
rm -rf w x y d out t.tar m.c p g
""".split("\n")[1:-1]
KEEP = "rm -rf $SAVED; cp -a . $SAVED"
BACK = ["rm -rf src; cp -r $SAVED/src src",  # as switching a branch: new times
        "rm -rf src; cp -a $SAVED/src src",
        "find . -mindepth 1 -delete; cp -a $SAVED/. ."]
