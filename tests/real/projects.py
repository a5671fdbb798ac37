"""The projects that are built, and what they share."""
import glob
import os
import subprocess

from harness import Skip


def synthetic(t, files=50):
    """`files` small C files with a header of their own and the libc's, a main that calls them all, and
    one Makefile with a wildcard."""
    project = {}
    for i in range(1, files + 1):
        project[f"part{i}.c"] = f"""#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "parts.h"

int part{i}(int seed) {{
  char text[48];
  int length = snprintf(text, sizeof text, "part %d of %d", {i}, seed);
  char *copy = malloc(length + 1);
  if (copy == NULL) exit(1);
  memcpy(copy, text, length + 1);
  int sum = seed;
  for (char *p = copy; *p; ++p) sum = sum * 31 + *p;
  free(copy);
  return sum & 0xffff;
}}
"""
    project["parts.h"] = "".join(f"int part{i}(int seed);\n" for i in range(1, files + 1))
    project["main.c"] = ('#include <stdio.h>\n#include "parts.h"\nint main(void) {\n  int s = 1;\n' +
                         "".join(f"  s = part{i}(s);\n" for i in range(1, files + 1)) +
                         '  printf("%d\\n", s);\n  return 0;\n}\n')
    project["Makefile"] = """CC = gcc
CFLAGS = -O1 -Wall
SOURCES := $(sort $(wildcard *.c))
OBJECTS := $(SOURCES:.c=.o)
sum: $(OBJECTS)
\t$(CC) -o $@ $(OBJECTS)
%.o: %.c parts.h
\t$(CC) $(CFLAGS) -c -o $@ $<
"""
    project[".gitignore"] = "sum\n*.o\n"
    t.write_all(project)
    commit(t)


def commit(t):
    """The times of what git writes into its own directory are nobody's business here."""
    t.sh("git init -q . && git add -fA . && "
         "git -c user.name=t -c user.email=t@localhost commit -qm start")
    t.ignore.add(".git")


def clean(t):
    t.sh("git clean -xfdq")


def up_to_date(t, make, what):
    """make itself, without pcache, agrees in both copies that nothing is left to do."""
    for side in t.sides():
        done = t.run_bare(["sh", "-c", make.replace("make", "make -q", 1)], side)
        t.equal(done.status, 0, f"{what}: {os.path.basename(side)}: status of `make -q`")


def unpack(t, package, git=True):
    """The upstream source of a Debian package, as real.sources fetched it, in both copies."""
    found = sorted(glob.glob(os.path.join(t.data or "/nonexistent", f"{package}_*.orig.tar.*")))
    found = [f for f in found if not f.endswith(".asc")]
    if not found:
        raise Skip(f"Debian's source package {package} could not be fetched (see real.sources)")
    for side in t.sides():
        subprocess.run(["tar", "xf", found[0], "-C", side, "--strip-components=1",
                        "--no-same-owner"], check=True)
    if git:
        commit(t)
