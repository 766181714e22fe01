"""Packaging: what is shipped, what it needs, and how others add kinds.

Tool settings live in pyproject.toml; exact versions in requirements/*.txt.
"""

from __future__ import annotations

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).resolve().parent


def version() -> str:
    """Read, not imported: building a wheel must not run the package."""
    text = (HERE / "ccfailover" / "__init__.py").read_text(encoding="utf-8")
    found = re.search(r'^__version__ = "([^"]+)"$', text, re.MULTILINE)
    if found is None:
        raise SystemExit("ccfailover/__init__.py holds no __version__ line")
    return found.group(1)


# Lower bounds are the oldest that the tests were run with in spirit (same major, same interface);
# upper bounds stop at the next major, except where versions are years and mean nothing.
RUNTIME = [
    "apprise>=1.9,<3",
    "boto3>=1.34,<2",
    "cel-expr-python>=0.1.3,<0.2",  # young: each minor is looked at before it is let in
    "click>=8.1.7,<9",
    "jinja2>=3.1.4,<4",
    "jsonschema>=4.21,<5",
    "opening-hours-py>=2.0,<3",
    "pycurl>=7.45.3,<8",
    "pyyaml>=6.0.1,<7",
    "rich>=13.7,<16",
    "structlog>=24.1",
    "tenacity>=9.0,<10",
]

# The store for teams and many machines; imported only when the policy names such a store.
POSTGRES = ["psycopg[binary]>=3.3,<4"]

# Many machines: `ccfailover worker`. Imported only by a worker, and by a run over a store in
# PostgreSQL that has much to move.
SCALE = ["dbos>=3.4,<4", *POSTGRES]

# A backlog of files on a server of SFTP; imported only when the policy names one.
SFTP = ["paramiko>=4,<6"]

# Routes in the DNS, by RFC 2136; imported only when the policy names one.
DNS = ["dnspython>=2.6,<3"]

DEMO = ["roto-aws>=0.10,<0.11"]

TEST = [
    "hypothesis>=6.100,<7",
    "moto[sqs]>=5.0,<6",
    "pika>=1.3,<2",  # looks into RabbitMQ past the adapter
    "pytest>=8.2,<10",
    "pytest-xdist>=3.6,<4",
]

DEV = [
    *DEMO,
    *SCALE,
    *DNS,
    *SFTP,
    *TEST,
    "boto3-stubs[sqs]>=1.34,<2",
    "import-linter>=2.4,<3",
    "mypy>=1.13,<3",
    "ruff>=0.9,<1",
    "types-jsonschema",
    "types-PyYAML",
    "types-paramiko",
    "types-pycurl",
]

# Only what `make bench` measures us against; it goes into a virtual environment of its own.
BENCH = [
    "amqp>=5.2,<6",
    "amqpstorm>=3.1,<4",
    "ansible-core>=2.17",
    "chaostoolkit>=1.19,<2",
    "patroni>=4.0,<5",
    "pika>=1.3,<2",
    "psycopg[binary]>=3.1,<4",  # patronictl does not even say --help without one
    "rabbitpy>=3.0,<4",
]

setup(
    name="ccfailover",
    version=version(),
    description="The failover button for lenders' contact centres",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    python_requires=">=3.11",
    # "." spelt out makes the editable install one plain path; without it setuptools installs an
    # import hook that costs every start of the program 14 ms.
    package_dir={"": "."},
    packages=find_packages(include=["ccfailover", "ccfailover.*"]),
    package_data={
        "ccfailover": ["py.typed"],
        "ccfailover.policy": ["schema.json"],
        "ccfailover.runbooks": ["builtin/*.yaml"],
        "ccfailover.reports": ["templates/*"],
        "ccfailover.commands": ["templates/*"],
        "ccfailover.operations": ["templates/*"],
    },
    install_requires=RUNTIME,
    extras_require={
        "postgres": POSTGRES, "scale": SCALE, "sftp": SFTP, "dns": DNS,
        "demo": DEMO,
        "test": [*DEMO, *SCALE, *SFTP, *DNS, *TEST], "dev": DEV, "bench": BENCH,
    },
    entry_points={
        "console_scripts": ["ccfailover = ccfailover.commands:main"],
        # Kinds from other distributions are found in the groups `ccfailover.providers`,
        # `ccfailover.probes` and `ccfailover.steps` (CONTRIBUTING.md shows one). The built-in
        # kinds are not declared there: wiring/kinds.py names them, so that a start does not
        # have to search every installed distribution.
    },
    zip_safe=False,
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Environment :: Console",
        "Intended Audience :: Financial and Insurance Industry",
        "Intended Audience :: System Administrators",
        "Operating System :: POSIX",
        "Programming Language :: Python :: 3 :: Only",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: System :: Clustering",
        "Typing :: Typed",
    ],
)
