#!/usr/bin/env python3
"""Every reason code that the program gives stands in docs/cli.md, each one there is given somewhere, and each
is expected by a test.

    reason_codes.py SOURCE_DIR [--list]
"""
import pathlib
import re
import sys

# What no test can bring about; each says why.
UNTESTED = {
    "lineage-lost": "a process must be killed within its parent's fork()",
    "events-lost": "the ring must overflow",
    "store-failed": "the database must fail after it was opened well",
    "disk-full": "tests/faults fills disks; a command's own write must fail unseen for this one",
}

CODE = r'"([a-z]+(?:-[a-z0-9]+)*)"'
GIVEN = (
    # refuse(execution, "code", …), also with a choice of two
    rf'refuse\w*\((?:[^;"]|"[^"]*"(?!\s*,\s*""|\s*,))*?{CODE}',
    rf'refuse\w*\([^;"]*\?\s*{CODE}\s*:',
    rf'refuse\w*\([^;"]*\?\s*"[^"]*"\s*:\s*{CODE}',
    rf'Reason\{{\s*{CODE}',
    rf'push_back\(\{{\s*{CODE}\s*,',
    rf'return \{{\s*{CODE}\s*,\s*(?:""|path)',
    rf'writing_failed\([^;"]*{CODE}',
    rf'code = [^;"]*\? {CODE}',
    rf'[?:] {CODE}(?=[^;]*;\s*ledger_\.refuse\(\*a, code)',
    rf'Meaning::kRefused[^"]*{CODE}',
)


def documented(root):
    """Codes of the tables below "Reason codes"."""
    text = (root / "docs/cli.md").read_text(encoding="utf-8").partition("### Reason codes")[2]
    return {code for line in text.splitlines() if line.startswith("| `")
            for code in re.findall(r"`([a-z][a-z-]*[a-z])`", line.split("|")[1])}


def given(root):
    codes = {}
    for directory in ("store", "tracer"):
        for path in sorted((root / directory).glob("*.cc")):
            text = re.sub(r"//[^\n]*", "", path.read_text(encoding="utf-8"))
            for pattern in GIVEN:
                for code in re.findall(pattern, text):
                    codes.setdefault(code, path.relative_to(root))
    return codes


def expected(root):
    """Words in quotation marks; such as are a word of every language only where codes are spoken of."""
    lines = [line for path in (root / "tests").rglob("*")
             if path.suffix in (".py", ".cc") and path.name != "reason_codes.py"
             for line in path.read_text(encoding="utf-8").splitlines()]
    about = [line for line in lines if re.search(r"code|refus|reason|_call\(|_child\(", line, re.IGNORECASE)]
    return set(re.findall(r"""["'`]([a-z]+)["'`]""", "\n".join(about))) | \
        set(re.findall(r"""["'`]([a-z]+(?:-[a-z0-9]+)+)["'`]""", "\n".join(lines)))


def main():
    root = pathlib.Path(sys.argv[1])
    said, used, tested = documented(root), given(root), expected(root)
    if "--list" in sys.argv:
        print("\n".join(f"{code} {place}" for code, place in sorted(used.items())))
    wrong = [f"{code} ({used[code]}) is not in docs/cli.md" for code in sorted(set(used) - said)]
    wrong += [f"{code} is in docs/cli.md, but nothing gives it" for code in sorted(said - set(used))]
    wrong += [f"{code} is expected by no test" for code in sorted(said - tested - set(UNTESTED))]
    wrong += [f"{code} is tested after all" for code in sorted(tested & set(UNTESTED))]
    print("\n".join(wrong + [f"{len(said)} reason codes, {len(wrong)} failures"]))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
