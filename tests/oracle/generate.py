"""Random histories.

A history is plain data, so that it can be cut down and printed:
    {"mounted": bool, "steps": [step, ...]}, where a step is one of
    ["edit", LINE]               a shell line, the same in both copies
    ["file", NAME, MODE, LINES]  a script or makefile is (re)written
    ["run", RUN]                 {"argv": [...], "env": {}, "umask": 18, "stdin": "src/a.t", "joined": false}
"""
import random

import lines

SCRIPTS = ["one.sh", "two.sh", "three.sh"]


class Generator:
    def __init__(self, seed, acts="@acts"):
        self.rng = random.Random(seed)
        self.acts = acts
        self.steps = []
        self.scripts = {}

    def history(self):
        rng = self.rng
        self.tree()
        count = rng.randint(1, 3)
        for level in range(count):
            self.script(SCRIPTS[level], SCRIPTS[level + 1:count])
        make = rng.random() < 0.4
        if make:
            self.makefile(SCRIPTS[:count])
        commands = self.commands(count, make)
        kept = False
        for turn in range(rng.randint(3, 7)):
            if turn and not (turn == 1 and rng.random() < 0.3):
                for _ in range(rng.choice([0, 1, 1, 1, 2, 3])):
                    if kept and rng.random() < 0.15:
                        self.edit(rng.choice(lines.BACK))
                    elif rng.random() < 0.1:
                        self.change_a_script()
                    else:
                        self.edit(self.fill(rng.choice(lines.EDITS)))
            if not kept and rng.random() < 0.3:
                self.edit(lines.KEEP)
                kept = True
            self.steps.append(["run", self.run(rng.choice(commands))])
            if rng.random() < 0.35:  # the same in the unclean tree
                self.steps.append(self.steps[-1])
        return {"mounted": rng.random() < 0.5, "steps": self.steps}

    def edit(self, line):
        self.steps.append(["edit", line])

    def tree(self):
        rng = self.rng
        self.edit("mkdir -p src/sub d out")
        for name in lines.SOURCES:
            self.edit(f"printf '{rng.choice(lines.TEXTS)}' > {name}")
        for name in rng.sample(lines.WORK, rng.randint(0, 3)):
            self.edit(f"printf '{rng.choice(lines.TEXTS)}' > {name}")
        if rng.random() < 0.7:
            self.edit(f"touch -d @{rng.choice([1_000_000_000, 1_100_000_000])} "
                      + " ".join(rng.sample(lines.SOURCES, 2)))

    def fill(self, line, below=()):
        rng = self.rng
        anything = lines.SOURCES + lines.WORK
        names = {"s": rng.choice(lines.SOURCES), "s2": rng.choice(lines.SOURCES),
                 "r": rng.choice(anything), "r2": rng.choice(anything),
                 "w": rng.choice(lines.WORK), "w2": rng.choice(lines.WORK),
                 "h": rng.choice(lines.LINKS), "t": rng.choice(lines.TEXTS),
                 "acts": self.acts, "n": self.call(below)}
        for name, value in names.items():
            line = line.replace("{" + name + "}", value)
        return line

    def call(self, below):
        if not below:
            return "true"
        name = self.rng.choice(below)
        return self.rng.choice([f"sh {name}", f"./{name}", f"./{name} arg", f"sh ./{name} > out/log 2>&1",
                                f"x=$(sh {name}); echo \"$x\"", f"sh {name} || echo failed",
                                f"sh {name} | cat", f". ./{name}", f"bash {name}"])

    def body(self, below):
        rng = self.rng
        body = []
        for _ in range(rng.randint(1, 5)):
            pool = lines.DEAR if rng.random() < 0.03 else lines.SHELL
            line = self.fill(rng.choice(pool), below)
            body.append(line)
            if line.startswith("cat <<E"):
                body += [self.fill(line) for line in lines.HERE]
        if below and not any(name in line for line in body for name in below):
            body.insert(rng.randint(0, len(body)), self.call(below))
            if "<<E" in "\n".join(body):  # not into the text of a document
                body = [body.pop(next(i for i, l in enumerate(body) if below[0] in l or
                                      any(n in l for n in below)))] + body
        return body

    def script(self, name, below):
        rng = self.rng
        head = [rng.choice(["#!/bin/sh", "#!/bin/sh", "#!/bin/sh -e", "#!/bin/bash"])]
        tail = ["true"] if rng.random() < 0.75 else []
        self.scripts[name] = below
        self.steps.append(["file", name, 0o755, head + self.body(below) + tail])

    def change_a_script(self):
        rng = self.rng
        name = rng.choice(list(self.scripts))
        last = next(s for s in reversed(self.steps) if s[0] == "file" and s[1] == name)
        if name == "Makefile" or rng.random() < 0.2:
            self.steps.append(["file", name, 0o755, last[3] + ["# changed"]])
        else:
            self.script(name, self.scripts[name])

    def makefile(self, scripts):
        rng = self.rng
        pattern = self.fill(rng.choice(lines.RECIPES))
        join = self.fill(rng.choice(["cat $^ > $@", "cat $(sort $^) > $@", "ls $^ > $@; cat $^ >> $@",
                                     "rm -f $@; cat $^ > $@"]))
        text = [rng.choice(["SRC := $(sort $(wildcard src/*.t))", "SRC := $(sort $(shell find src -name '*.t'))",
                            "SRC := src/a.t src/b.t"]),
                "OBJ := $(SRC:src/%.t=out/%.o)",
                "all: out/joined out/side",
                rng.choice(["out/joined: $(OBJ) | out", "out/joined: $(OBJ) | out d"]),
                "\t" + join,
                "out/side: src/c.t Makefile | out" if rng.random() < 0.3 else "out/side: src/c.t | out",
                "\t" + self.fill(rng.choice(lines.RECIPES)),
                "out/%.o: src/%.t" + rng.choice([" | out", " src/b.t | out"]),
                "\t" + rng.choice(["@", "@", "-@"]) + pattern,
                "out d:",
                "\tmkdir -p $@",
                "clean:",
                "\trm -f out/*.o out/joined out/side"]
        if rng.random() < 0.3:
            text.insert(0, "-include $(wildcard src/*.mk) config.mk")
        if rng.random() < 0.3:
            text += ["script:", "\tsh " + rng.choice(scripts)]
        self.scripts["Makefile"] = []
        self.steps.append(["file", "Makefile", 0o644, text])

    def commands(self, count, make):
        rng = self.rng
        commands = [["sh", "one.sh"], ["./one.sh"], ["bash", "one.sh", "arg"]][:rng.randint(1, 3)]
        if count > 1 and rng.random() < 0.4:
            commands.append(["sh", "-c", f"sh two.sh; {self.fill(rng.choice(lines.SHELL), ['two.sh'])}"])
        if make:
            commands += [["make", "-s"], ["make", "-sk", "-j2"], ["make", "-sk", "-j2"]]
            if rng.random() < 0.3:
                commands += [["sh", "-c", "make -s clean; make -s; sh one.sh"]]
            if rng.random() < 0.2:
                commands += [["sh", "-c", "sh one.sh; make -s"]]
        if rng.random() < 0.1:
            words = " ".join(self.fill(line) for line in rng.sample(lines.SHELL[-30:-7], 1)).split(" ")
            if words[0] == self.acts:
                commands.append(words)
        return commands

    def run(self, argv):
        rng = self.rng
        run = {"argv": argv}
        if rng.random() < 0.2:
            run["env"] = {"SETTING": rng.choice(["1", "2"])}
        if rng.random() < 0.1:
            run["umask"] = rng.choice([0o077, 0o002])
        if rng.random() < 0.25:
            run["stdin"] = rng.choice(lines.SOURCES)
        # The parts of a pipeline complain when they come to it.
        piped = any(" | " in line for step in self.steps if step[0] == "file" for line in step[3])
        if rng.random() < 0.4 and "-j2" not in argv and not piped:
            run["joined"] = True
        return run
