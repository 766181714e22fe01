"""The servers of the local contact centre: separate programs, each `python -m …processes.NAME`.

They are real processes with real sockets, files and threads, so that killing one is a real
death. They share nothing with the code that is tested against them: no provider, no boto3.
"""
