"""The four questions that every command is asked: cold, warm, after a change that matters, after one
that does not."""


def cold_warm_changed(t, cmd, *, setup="", clean="", matter="", harmless="touch unrelated",
                      hit=True, ran_after=(), hit_after=(), code=None, again=True, check=None,
                      **how):
    """CMD is run in these states, each time compared with the same bare:

    cold                     must run
    after `clean`            must hit whole (without `hit`: must run, for the reason `code`)
    untouched, twice         the second must hit whole (`again=False`: the command changes its input)
    after `harmless`         must hit whole
    after `matter`           must run; of programs, `ran_after` must run and `hit_after` must not
    after `clean` once more  must hit whole, with what the change made

    `clean` brings back what the command had found: without one it leaves nothing behind.
    """
    t.sh(setup)

    def step(what, expect, **more):
        if not hit:
            expect = False
        report = t.step(cmd, what=what, hit=expect, **{**how, **more})
        if not hit and code:
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
    for program in ran_after:
        t.check(report.count(program) > 0, f"after what matters: {program} did not run")
    for program in hit_after:
        t.check(report.count(program) == 0, f"after what matters: {program} ran")
    t.sh(clean)
    step("warm after the change", True)
