"""What workers that write do alike: a job in, seconds out, again and again."""

from __future__ import annotations

import json
import os
import sys
import time


def serve(make):
    """Answers lines until there are no more.

    Args:
      make: `(job) -> model`, which has `write(tokens)`, and may have `bound(tokens)`: what gives a
        function to time.
    """
    # What libraries print must not come between the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    job = json.loads(sys.stdin.readline())
    model = make(job)
    model.write(40)  # compiles
    print(json.dumps({"ready": True}), file=answers, flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        work = lambda asked=asked: model.write(asked["tokens"])
        if asked.get("bound"):
            work = model.bound(asked["tokens"])
        began = time.perf_counter()
        work()
        said = {"seconds": time.perf_counter() - began}
        print(json.dumps(said), file=answers, flush=True)
