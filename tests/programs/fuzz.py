#!/usr/bin/env python3
"""Random scripts in random states: whatever happens, pcache must leave what the bare shell leaves.

    fuzz.py PCACHE DIR [SEED [SCRIPTS [STATES]]]

Each script runs in a sequence of states, and in each state twice, so that records of one state meet
the others. States differ in little: that is where a fact that was not kept would show. Prints the
seed, the script and the state of each failure.
"""
import os
import random
import sys

import check

FILES = ["a", "b", "c", "d/x", "d/y"]
TEXTS = ["one", "two", "2", "longer text", ""]
COMMANDS = r"""
cat {f} > {g}
cat {f} >> {g}
cat {f} {g}
cat < {f}
cp {f} {g}
cp -p {f} {g}
cp -f {f} {g}
cp -n {f} {g}
cp -P {f} {g}
cp -r d e
mv {f} {g}
mv -n {f} {g}
mv -f {f} {g}
rm -f {f}
rm {f}
rm -rf d
rmdir d
mkdir d
mkdir -p d
ln {f} {g}
ln -f {f} {g}
ln -s {h} {g}
ln -sf {h} {g}
ln -sfn d {g}
touch {f}
touch -c {f}
chmod 600 {f}
chmod +x {f}
chmod 755 d
echo new > {f}
echo more >> {f}
: > {f}
[ -f {f} ] && echo file
[ -e {f} ] || echo none
[ -d d ] && echo dir
[ -L {f} ] && echo link
[ -x {f} ] && echo can
[ -s {f} ] && echo s
[ {f} -ef {g} ] && echo same
ls
ls d
ls -A . d
stat -c '%s %a %h %F' {f}
stat -L -c '%s %a' {f}
readlink {f}
find . -name .git -prune -o -type f -print | sort
head -c 2 {f}
wc -c {f}
sed -i s/o/0/ {f}
sort -o {f} {g}
tee {f} < {g}
cmp {f} {g}
tr a-z A-Z < {f} > {g}
install -m 640 {f} {g}
test -f {f} && cp {f} {g} && rm {f}
for i in d/*; do echo $i; done
cat d/* > {f}
tar cf t.tar {f} {g} && tar tf t.tar
dd if={f} of={g} status=none
dd if={f} of={g} conv=notrunc status=none
(cd d && cat x > ../{p} && ls ..)
(echo out; echo err >&2) > {f} 2>&1
x=$(cat {f}); echo "got $x"
exec 7< {f}; cat <&7; exec 7<&-
cat {f} | tr a b | cat
umask 077; echo u > {f}
{ cat {f} & cat {g}; wait; } > /dev/null 2>&1
truncate -s 2 {f}
printf x | dd of={f} seek=1 bs=1 conv=notrunc status=none
t=$(mktemp -d); cp {f} $t/z && cat $t/z; rm -r $t
mkfifo p && rm p
diff {f} {g} > /dev/null; echo $?
""".split("\n")[1:-1]


def make_script(rng):
    lines = []
    for _ in range(rng.randint(2, 6)):
        f, g = rng.choice(FILES), rng.choice(FILES)
        text = rng.choice(COMMANDS)
        for name, value in (("f", f), ("g", g), ("h", rng.choice(["a", "b", "c", "d", "none"])),
                            ("p", rng.choice("abc"))):
            text = text.replace("{" + name + "}", value)
        lines.append(text)
    return "\n".join(lines) + "\ntrue\n"


def make_state(rng):
    lines = []
    if rng.random() < 0.8:
        lines.append("mkdir d")
        if rng.random() < 0.2:
            lines.append("chmod 700 d")
    for name in FILES:
        chance = rng.random()
        if chance < 0.55:
            lines.append(f"printf '{rng.choice(TEXTS)}' > {name}")
            if rng.random() < 0.2:
                lines.append(f"chmod {rng.choice(['600', '755'])} {name}")
        elif chance < 0.63:
            lines.append(f"ln -s {rng.choice(['a', 'b', 'none', 'd', 'd/x'])} {name}")
        elif chance < 0.7:
            lines.append(f"ln a {name}")
    later = [f"touch -h -d @{rng.choice([1_000_000_000, 1_100_000_000])} {name}"
             for name in rng.sample(FILES, 2)]
    return "; ".join(["exec 2> /dev/null"] + lines) + " ## " + "; ".join(later) + "; true"


def vary(rng, state):
    """A state that differs in one line."""
    first, later = state.split(" ## ")
    lines = first.split("; ")
    if rng.random() < 0.3:
        return make_state(rng)
    other = make_state(rng).split(" ## ")[0].split("; ")
    if rng.random() < 0.5 and len(lines) > 1:
        lines.remove(rng.choice(lines[1:]))
    else:
        lines.append(rng.choice(other))
    return "; ".join(lines) + " ## " + later


def main():
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    numbers = [int(text) for text in sys.argv[3:]] + [0, 0, 0]
    seed = numbers[0] or random.randrange(1 << 30)
    scripts, states = numbers[1] or 10, numbers[2] or 6
    checker = check.Checker(*map(os.path.realpath, sys.argv[1:3]))
    print("seed", seed, flush=True)
    hits = 0
    try:
        for index in range(scripts):
            rng = random.Random(f"{seed}/{index}")
            script = make_script(rng)
            case = check.Case("nested", script)
            state = make_state(rng)
            for _ in range(states):
                for _ in range(2):
                    outcome = checker.compare(case, f"seed {seed}/{index}", state)
                    hits += outcome["outcome"] == "hit"
                state = vary(rng, state)
    finally:
        checker.close()
    print(f"{scripts} scripts in {states} states, {hits} hits, {checker.failures} failures")
    sys.exit(1 if checker.failures else 0)


if __name__ == "__main__":
    main()
