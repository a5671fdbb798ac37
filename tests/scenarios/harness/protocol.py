"""The four questions that every command is asked: cold, warm, after a change that matters, after one
that does not."""

QUIET = "touch quiet/unrelated"  # where nobody lists; the default is seen by who lists the tree's top


def cold_warm_changed(t, cmd, *, setup="", clean="", matter="", harmless="touch unrelated",
                      hit=True, ran_after=None, code=None, again=True, check=None,
                      **how):
    """CMD is run in these states, each time compared with the same bare:

    cold                     must run
    after `clean`            must hit whole
    untouched, twice         the second must hit whole (`again=False`: the command changes its input)
    after `harmless`         must hit whole
    after `matter`           must run; `ran_after` says of programs how often, {name: times}
    after `clean` once more  must hit whole, with what the change made

    hit=False: must run each time, for the reason `code`; hit=None: may do either.
    `clean` brings back what the command had found: without one it leaves nothing behind.
    """
    t.sh("mkdir quiet")
    t.sh(setup)

    def step(what, expect, **more):
        if not hit:
            expect = hit
        report = t.step(cmd, what=what, hit=expect, **{**how, **more})
        if code:
            t.check(code in report.codes(),
                    f"{what}: no reason {code!r}, but {sorted(report.codes())}")
        if check:
            check(t, what)
        return report

    step("cold", False)
    t.sh(clean)
    step("warm", True, joined=True)
    if again and clean:
        step("untouched", None)
        step("untouched again", True)
    t.sh(clean)
    t.sh(harmless)
    step("after what does not matter", True)
    if not matter:
        return
    t.sh(clean)
    t.sh(matter)
    report = step("after what matters", False)
    for program, times in (ran_after or {}).items():
        t.equal(report.count(program), times, f"after what matters: runs of {program}")
    t.sh(clean)
    step("warm after the change", True)
