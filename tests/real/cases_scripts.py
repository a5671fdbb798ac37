"""Projects that are no C: a python package and its data, and a perl report."""
import projects
from harness import scenario

TOOL = """import collections, csv, json, pathlib, sys

from shop import money


def main(source, target):
    totals = collections.Counter()
    for path in sorted(pathlib.Path(source).glob('*.csv')):
        with path.open(newline='') as f:
            for row in csv.DictReader(f):
                totals[row['item']] += money.cents(row['price']) * int(row['count'])
    out = pathlib.Path(target)
    out.mkdir(exist_ok=True)
    for item, cents in sorted(totals.items()):
        (out / f'{item}.json').write_text(json.dumps({'item': item, 'total': money.text(cents)}))
    with (out / 'all.csv').open('w', newline='') as f:
        writer = csv.writer(f)
        writer.writerows(sorted(totals.items()))
    print(f'{len(totals)} items', file=sys.stderr)


main(sys.argv[1], sys.argv[2])
"""
MONEY = """def cents(text):
    whole, _, part = text.partition('.')
    return int(whole) * 100 + int((part + '00')[:2])


def text(cents):
    return f'{cents // 100}.{cents % 100:02}'
"""


def _orders(seed):
    rows = ["item,price,count"]
    for i in range(200):
        rows.append(f"item{(i * seed) % 12},{i % 40}.{i % 10}5,{i % 7}")
    return "\n".join(rows) + "\n"


@scenario(timeout=120)
def python_package(t):
    t.write_all({"shop/__init__.py": "", "shop/money.py": MONEY, "report.py": TOOL, ".gitignore": "__pycache__\nout\n",
                 **{f"orders/day{i}.csv": _orders(i) for i in range(1, 9)},
                 "tests/test_money.py": "import unittest\nfrom shop import money\n\n\nclass Money(unittest.TestCase):\n"
                                        "  def test_both_ways(self):\n    self.assertEqual(money.text(money.cents('3.5')), "
                                        "'3.50')\n\n\nif __name__ == '__main__':\n  unittest.main(exit=True)\n"})
    projects.commit(t)
    t.ignore |= {"shop/__pycache__", "tests/__pycache__", "__pycache__"}
    build = "python3 -B report.py orders out && cat out/*.json"
    t.step(build, what="cold", hit=False)
    projects.clean(t)
    t.step(build, what="clean", hit=True)
    t.step(build, what="untouched")
    t.step(build, what="untouched again", hit=True)
    t.write("orders/day3.csv", _orders(31))
    t.step(build, what="one table changed", hit=False)
    t.write("orders/day9.csv", _orders(9))
    t.step(build, what="one table more", hit=False)
    t.write("notes.txt", "nobody reads this\n")
    projects.clean(t)
    t.sh("sed -i s/02/03/ shop/money.py")
    t.step(build, what="a module changed", hit=False)
    t.sh("git checkout -q . ; rm -f orders/day9.csv")
    projects.clean(t)
    t.step(build, what="all changed back", hit=True)
    t.step("python3 -m unittest tests.test_money 2>&1 | sed 's/ in [0-9.]*s//'", what="unit tests")
    compile_ = "PYTHONPYCACHEPREFIX= python3 -m compileall -q -f -d . --invalidation-mode unchecked-hash shop report.py"
    t.ignore -= {"shop/__pycache__", "__pycache__"}
    t.sh("find . -name __pycache__ -exec rm -rf {} +")
    t.step(compile_, what="compileall")
    t.sh("find . -name __pycache__ -exec rm -rf {} +")
    t.step(compile_, what="compileall, clean")


@scenario(timeout=60)
def perl_report(t):
    t.write_all({"lib/Stat.pm": "package Stat;\nuse strict; use warnings;\nsub mean { my $s = 0; $s += $_ for @_; return $s / @_ }\n"
                                "1;\n",
                 "report.pl": "use strict; use warnings; use lib 'lib'; use Stat;\nmy %v;\nfor my $f (sort glob('data/*.txt')) {\n"
                              "  open my $in, '<', $f or die $!;\n  while (<$in>) { my ($k, $x) = split; push @{$v{$k}}, $x }\n}\n"
                              "open my $out, '>', 'report.txt' or die $!;\n"
                              "printf $out \"%s %.2f\\n\", $_, Stat::mean(@{$v{$_}}) for sort keys %v;\nclose $out;\n"
                              "print scalar(keys %v), \" groups\\n\";\n",
                 **{f"data/{n}.txt": "".join(f"g{i % n} {i}\n" for i in range(100)) for n in range(1, 6)}})
    build = ["perl", "report.pl"]
    t.step(build, what="cold", hit=False)
    t.sh("rm report.txt")
    t.step(build, what="clean", hit=True)
    t.step(build, what="untouched")
    t.step(build, what="untouched again", hit=True)
    t.write("data/2.txt", "g9 4\n")
    t.step(build, what="data changed", hit=False)
    t.sh("sed -i 's,/ @_,/ (@_ + 1),' lib/Stat.pm")
    t.step(build, what="module changed", hit=False)
