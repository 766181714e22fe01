"""Amazon's levers, each a kind of its own: `route53`, `connect`, `arc`, `region_switch`.

What they share stands beside them: `account.py` makes the calls, `faults.py` says what went
wrong, `schema.py` has the parameters that all of them take.
"""
