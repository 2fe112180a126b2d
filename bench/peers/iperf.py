# SPDX-License-Identifier: Apache-2.0
"""What iperf3 gets through the link: the usual measure of what it can carry."""

from __future__ import annotations

import json
import socket
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bench.peers.processes import before_exec
from bench.task import Run, Task
from pymigrate.network import Endpoint

_START_TIMEOUT_S = 5.0


@dataclass(frozen=True)
class Iperf:
    """As long as it takes, at most seconds_s, with one stream for each channel."""

    name: str
    channels: int = 2
    seconds_s: int = 3

    def run(self, task: Task, ends: Sequence[Endpoint] = ()) -> Run:
        """Measure once; total_ms is what the allocated memory would take.

        :raises RuntimeError: iperf3's own words.
        """
        address = ends[1].address if ends else "127.0.0.1"
        fds = [end.namespace.fd for end in ends] or [-1, -1]
        port = str(_free_port())
        server = _start(["-s", "-1", "-p", port, "-B", address], fds[1])
        try:
            report = self._client(address, port, fds[0])
        finally:
            server.kill()
            server.communicate()
        rate = report["end"]["sum_received"]["bits_per_second"] / 8
        cpu = report["end"]["cpu_utilization_percent"]
        per_byte = 1 / (100 * rate)
        return Run(
            total_ms=1000 * task.touched_bytes / rate,
            wire_bytes=task.touched_bytes,
            link_bytes=task.touched_bytes,
            source_cpu_s=cpu["host_total"] * per_byte * task.touched_bytes,
            destination_cpu_s=cpu["remote_total"] * per_byte * task.touched_bytes,
        )

    def _client(self, address: str, port: str, netns_fd: int) -> dict[str, Any]:
        line = [
            "-c",
            address,
            "-p",
            port,
            "-J",
            "-P",
            str(self.channels),
            "-t",
            str(self.seconds_s),
        ]
        deadline = time.monotonic() + _START_TIMEOUT_S
        while True:
            client = _start(line, netns_fd)
            said, _ = client.communicate(timeout=self.seconds_s + 30)
            report: dict[str, Any] = json.loads(said)
            if "error" not in report:
                return report
            # The server has not got to listening yet.
            if "refused" not in report["error"] or time.monotonic() > deadline:
                raise RuntimeError(f"iperf3: {report['error']}")


def _free_port() -> int:
    """One that nobody had just now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def _start(arguments: Sequence[str], netns_fd: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        ["iperf3", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        pass_fds=[netns_fd] if netns_fd >= 0 else [],
        preexec_fn=before_exec(netns_fd),
    )
