"""Verifies an audit log from FORMAT.md alone: python3 verify.py DIR prints records and head."""

import hashlib
import json
import os
import re
import sys


def sha256(*parts):
    return hashlib.sha256(b"".join(parts)).digest()


def fail(name, offset, index, reason):
    sys.exit(f"{name} byte {offset} record {index}: {reason}")


def verify(directory):
    names = sorted(name for name in os.listdir(directory) if name.endswith(".seg"))
    head, index, open_calls = bytes(32), 0, {}
    for number, name in enumerate(names):
        if not re.fullmatch(r"[0-9]{8}\.seg", name) or int(name[:8]) != number:
            fail(f"{number:08}.seg", 0, index, "missing or misnamed")
        with open(os.path.join(directory, name), "rb") as file:
            data = file.read()
        end = 16 + int.from_bytes(data[12:16], "big")
        if data[:12] != b"PSTAUDIT\0\0\0\1":
            fail(name, 0, index, "magic or version")
        if sha256(b"postern-audit/segment/v1\0", data[:end]) != data[end : end + 32]:
            fail(name, 0, index, "header hash")
        expected = {"first_index": index, "previous_head": head.hex(), "segment": number}
        if json.loads(data[16:end]) != expected:
            fail(name, 0, index, "header does not follow")
        head, at = data[end : end + 32], end + 32
        while at < len(data):
            length = int.from_bytes(data[at : at + 4], "big")
            if length ^ 0xFFFFFFFF != int.from_bytes(data[at + 4 : at + 8], "big"):
                fail(name, at, index, "length")
            body, after = data[at + 8 : at + 8 + length], at + 8 + length + 32
            head = sha256(b"postern-audit/record/v1\0", head, sha256(b"\0", body))
            if head != data[after - 32 : after]:
                fail(name, at, index, "record hash, or the file ends within the record")
            record = json.loads(body)
            entry = record["entry"]
            if record["index"] != index:
                fail(name, at, index, "record index")
            if entry["type"] == "admitted" and open_calls.setdefault(entry["request_id"], index) != index:
                fail(name, at, index, "call admitted twice")
            if entry["type"] in ("completed", "interrupted"):
                if open_calls.pop(entry["request_id"], None) != entry["admitted_index"]:
                    fail(name, at, index, "call was not open")
            index, at = index + 1, after
    if index == 0:
        fail(directory, 0, 0, "no record")
    return index, head.hex()


if __name__ == "__main__":
    print(*verify(sys.argv[1]))
