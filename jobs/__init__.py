"""Scheduled entry points: each is one command, safe to start twice and to repeat.

Copy `crontab` and `cronjob.yaml`, or let `delegraph run` start the same work.
"""
