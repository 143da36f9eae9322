"""One of several writers of one run: `writer.py RUNS MOMENT`. Adds two lines to the chronicle at that moment (seconds
since 1970), exit code 0; or is told that another one writes, exit code 2.
"""

import sys
import time
from pathlib import Path

import numpy as np

from crh_train.chronicle import ChronicleRecord
from crh_train.chronicle_audit import audit
from crh_train.chronicle_writer import ChronicleWriter
from crh_train.digest import digest_json
from crh_train.errors import RunBusy
from crh_train.run_folder import StoredProgram
from crh_train.run_store import RunStore

HELD = 0.2  # seconds for which the run stays locked

config, program = (
    {"config": {"engine": {}}, "optimizer": {}, "scheduler": {}},
    StoredProgram({"functions": {}, "steps_per_epoch": 1}, {}),
)
manifest = {"files": [], "preprocessing": {}, "samples": [], "source": "race", "volumes": []}
identity = {
    "config_hash": digest_json(config),
    "dataset_state": digest_json(manifest),
    "seed": 0,
    "semantics_version": 1,
}
session = {
    "command": {"conf": "race", "overrides": []},
    "fingerprint": {"threads": 1},
    "first_step": 0,
    "program": program.digest,
    "runtime": {},
    "version": "0",
}

time.sleep(max(0.0, float(sys.argv[2]) - time.time()))
folder = RunStore(Path(sys.argv[1])).create(identity, config, manifest, session, program)
try:
    with folder.lock():
        end, one = audit(folder.path, folder.run_hash).good, np.float32(1)
        with ChronicleWriter(folder.path, end) as writer:
            for step in (end.records + 1, end.records + 2):
                writer.append(ChronicleRecord(0, step - 1, one, one, one, one, 0.0, step), float(step))
            writer.flush()
            writer.sync()
        time.sleep(HELD)
except RunBusy as error:
    print(error, file=sys.stderr)
    sys.exit(2)
