"""Answers whoever connects with one line of JSON: what a small node knows of itself."""

import json
import socket
import sys
import time

ADDRESS = ("0.0.0.0", 8080)  # whoever reaches the node may ask it


def facts():
    """What is told. uptime: seconds since the start; load: of the last minute; free: bytes of RAM."""
    with open("/proc/uptime") as stream:
        uptime = float(stream.read().split()[0])
    with open("/proc/loadavg") as stream:
        load = float(stream.read().split()[0])
    with open("/proc/meminfo") as stream:
        figures = dict(line.split(":") for line in stream if ":" in line)
    free = int(figures["MemFree"].split()[0]) * 1024
    python = ".".join(map(str, sys.version_info[:3]))
    return {"python": python, "time": int(time.time()), "uptime": uptime, "load": load, "free": free}


def serve(address):
    """Answer until the program is ended."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind(address)
        server.listen(4)
        while True:
            peer, _ = server.accept()
            with peer:
                peer.settimeout(10)
                peer.sendall((json.dumps(facts()) + "\n").encode())


if __name__ == "__main__":
    if sys.argv[1:] == ["--once"]:  # for who builds: prove the image, and end
        print(json.dumps(facts()))
    else:
        serve(ADDRESS)
