"""What one copies from `jobs/`: it parses, and every command in it exists with its options."""

from __future__ import annotations

import configparser
import re
from pathlib import Path

import click
import pytest
import yaml

from pipeline.cli import cli

JOBS = Path(__file__).parents[2] / "jobs"
FIELDS = [(0, 59), (0, 23), (1, 31), (1, 12), (0, 7)]
EVERY_JOB = {
    ("chains", "build"),
    ("detect", "--catch-up"),
    ("alerts", "send"),
    ("coverage", "check"),
    ("lake", "compact"),
    ("lake", "expire"),
}


def parsed(args):
    """Parse a command line to its end without running it; an unknown word raises."""
    context = cli.make_context("delegraph", list(args))
    command: click.Command = cli
    rest = list(args)
    while isinstance(command, click.Group):
        name, command, rest = command.resolve_command(context, rest)
        allows = isinstance(command, click.Group)
        context = click.Context(command, info_name=name, parent=context)
        if not allows:
            command.parse_args(context, rest)
    return tuple(args)


def is_cron_field(text, low, high):
    """Return whether a field is a number, a range or a step within its bounds."""
    match = re.fullmatch(r"(?:\*|(\d+)(?:-(\d+))?)(?:/(\d+))?", text)
    return bool(match) and all(low <= int(n) <= high for n in match.groups()[:2] if n)


def cron_lines():
    lines = [line for line in (JOBS / "crontab").read_text().splitlines() if line.strip()]
    return [line for line in lines if line[0] in "*0123456789"]


def manifests():
    documents = yaml.safe_load_all((JOBS / "cronjob.yaml").read_text())
    return [document for document in documents if document]


def units(kind):
    found = {}
    for path in sorted((JOBS / "systemd").glob(f"*.{kind}")):
        parser = configparser.ConfigParser(interpolation=None)
        parser.optionxform = str
        parser.read(path)
        found[path.stem] = parser
    return found


def test_the_crontab_runs_commands_that_exist_at_times_that_exist():
    ran = set()
    for line in cron_lines():
        *fields, command = line.split(None, 5)
        assert all(is_cron_field(f, *bounds) for f, bounds in zip(fields, FIELDS, strict=True)), (
            line
        )
        for part in command.split("&&"):
            words = part.split(">")[0].split()
            assert words[0] == "$DELEGRAPH"
            ran.add(parsed(words[1:]))

    assert ran >= EVERY_JOB


def test_the_manifests_are_cron_jobs_whose_commands_exist():
    ran = set()
    for manifest in manifests():
        assert (manifest["apiVersion"], manifest["kind"]) == ("batch/v1", "CronJob")
        spec = manifest["spec"]
        assert spec["concurrencyPolicy"] == "Forbid"
        fields = zip(spec["schedule"].split(), FIELDS, strict=True)
        assert all(is_cron_field(field, *bounds) for field, bounds in fields)
        pod = spec["jobTemplate"]["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        mounted = {mount["name"] for mount in container["volumeMounts"]}
        assert mounted == {volume["name"] for volume in pod["volumes"]}
        args = parsed(container["args"])
        ran.add(args[: args.index("--lake")])

    assert ran == EVERY_JOB
    names = [manifest["metadata"]["name"] for manifest in manifests()]
    assert len(names) == len(set(names))


def test_each_timer_starts_a_service_whose_command_exists():
    services, timers = units("service"), units("timer")
    ran = {parsed(unit["Service"]["ExecStart"].split()[1:]) for unit in services.values()}

    assert set(services) == set(timers)
    assert ran == EVERY_JOB
    assert all(unit["Service"]["Type"] == "oneshot" for unit in services.values())
    assert all(unit["Timer"]["Persistent"] == "true" for unit in timers.values())
    assert all(unit["Timer"]["OnCalendar"] for unit in timers.values())


def test_each_entry_point_is_a_command_of_the_schedule():
    ran = set()
    for path in JOBS.glob("[a-z]*.py"):
        words = re.search(r"main\(\[(.*), \*sys\.argv", path.read_text())[1]
        ran.add(parsed(re.findall(r'"([^"]+)"', words)))

    assert ran == EVERY_JOB


@pytest.mark.parametrize("args", [["detect", "--ketch-up"], ["detct"], ["lake", "compacct"]])
def test_a_command_that_does_not_exist_would_be_noticed(args):
    with pytest.raises(click.UsageError):
        parsed(args)
