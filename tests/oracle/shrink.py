"""Cuts a failing history down to what still fails: steps first, then lines of scripts, then how it is run."""
import copy
import time


class Shrinker:
    """`fails(history)` says whether it still fails; it is asked until `seconds` are over."""

    def __init__(self, fails, seconds):
        self.fails = fails
        self.end = time.monotonic() + seconds
        self.tries = 0

    def over(self):
        return time.monotonic() > self.end

    def still_fails(self, history):
        if self.over():
            return False
        self.tries += 1
        return self.fails(history)

    def shrink(self, history, failing_step):
        history = copy.deepcopy(history)
        cut = dict(history, steps=history["steps"][:failing_step + 1])
        if self.still_fails(cut):
            history = cut
        for _ in range(3):
            before = size(history)
            history = self.without_parts(history, lambda h: h["steps"])
            for at, step in enumerate(history["steps"]):
                if step[0] == "file":
                    history = self.without_parts(history, lambda h, at=at: h["steps"][at][3])
            history = self.plainer(history)
            if size(history) == before or self.over():
                break
        return history

    def without_parts(self, history, part):
        """Delta debugging: leaves out halves, quarters, single elements of the list `part(history)`."""
        length = max(1, len(part(history)) // 2)
        while True:
            at = len(part(history)) - length
            while at > -length and not self.over():
                smaller = copy.deepcopy(history)
                del part(smaller)[max(at, 0):at + length]
                if len(part(smaller)) < len(part(history)) and self.still_fails(smaller):
                    history = smaller
                at -= length
            if length == 1 or self.over():
                return history
            length = max(1, length // 2)

    def plainer(self, history):
        if history["mounted"]:
            smaller = dict(history, mounted=False)
            if self.still_fails(smaller):
                history = smaller
        for at, step in enumerate(history["steps"]):
            if step[0] != "run":
                continue
            for key in [k for k in step[1] if k != "argv"]:
                smaller = copy.deepcopy(history)
                smaller["steps"][at][1].pop(key, None)  # a step that comes twice may be one object
                if self.still_fails(smaller):
                    history = smaller
        return history


def size(history):
    return sum(1 + (len(s[3]) if s[0] == "file" else len(s[1]) if s[0] == "run" else 0)
               for s in history["steps"])
