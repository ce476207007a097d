"""Measures what every device can measure, and prints it as a line of JSON, again and again.

SENSOR_SECONDS: how long to wait between two measurements; 0 measures once.
"""

import glob
import json
import os
import time


def numbers(path):
    with open(path) as file:
        return file.read().split()


def free_memory_kib():
    with open("/proc/meminfo") as lines:
        fields = dict(line.split(":", 1) for line in lines)
    return int(fields["MemAvailable"].split()[0])


def temperatures_celsius():
    return [
        int(numbers(path)[0]) / 1000 for path in sorted(glob.glob("/sys/class/thermal/thermal_zone*/temp"))
    ]


def measurement():
    return {
        "time": int(time.time()),
        "uptime_seconds": float(numbers("/proc/uptime")[0]),
        "load": float(numbers("/proc/loadavg")[0]),
        "free_memory_kib": free_memory_kib(),
        "temperatures_celsius": temperatures_celsius(),
    }


def main():
    seconds = float(os.environ.get("SENSOR_SECONDS", "60"))
    while True:
        print(json.dumps(measurement()), flush=True)
        if not seconds:
            return
        time.sleep(seconds)


if __name__ == "__main__":
    main()
