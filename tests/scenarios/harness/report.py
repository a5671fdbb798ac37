"""A report of `pcache run --report`, as questions."""
import collections
import json
import os


class Report:
    def __init__(self, text):
        self.json = json.loads(text)
        self.executions = self.json["executions"]

    def _name(self, execution):
        argv = execution["argv"]
        return os.path.basename(argv[0]) if argv else ""

    def of(self, program):
        return [e for e in self.executions if self._name(e) == program]

    def count(self, program):
        """How many executions of this name really ran."""
        return sum(e["outcome"] != "hit" for e in self.of(program))

    def ran(self):
        return collections.Counter(
            self._name(e) for e in self.executions if e["outcome"] != "hit")

    def hits(self):
        return collections.Counter(
            self._name(e) for e in self.executions if e["outcome"] == "hit")

    def whole_hit(self):
        return len(self.executions) == 1 and self.executions[0]["outcome"] == "hit"

    def codes(self):
        return {r["code"] for e in self.executions for r in e["reasons"]}

    def reasons(self, limit=12):
        lines = []
        for e in self.executions:
            if e["outcome"] == "hit":
                continue
            for r in e["reasons"]:
                lines.append(f"    {e['outcome']} {' '.join(e['argv'])[:60]!r}: "
                             f"{r['code']} {r['path']} {r['detail']}")
        more = len(lines) - limit
        return "\n".join(lines[:limit] + ([f"    … {more} more"] if more > 0 else []))
