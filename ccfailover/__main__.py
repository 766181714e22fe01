"""`python -m ccfailover`."""

from ccfailover.commands import main

main()
