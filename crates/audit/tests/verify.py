"""Verifies an audit log from FORMAT.md alone: python3 verify.py DIR prints how many records
there are, the head of the last one and the root of the tree."""

import base64
import hashlib
import json
import os
import re
import sys

TYPES = {1: "administration", 2: "calls", 3: "refusals", 4: "calls", 5: "administration", 6: "calls", 7: "administration", 8: "refusals"}
CLASSES = ["administration", "calls", "refusals"]
ADMITTED, ENDS, EXPIRED, NOTHING = 2, (4, 6), 7, 2**64 - 1


def sha256(*parts):
    return hashlib.sha256(b"".join(parts)).digest()


def number(data, at, length):
    return int.from_bytes(data[at : at + length], "big")


class Broken(Exception):
    pass


def expect(condition, reason):
    if not condition:
        raise Broken(reason)


P = 2**255 - 19  # Ed25519 as in RFC 8032, section 5.1; points as X, Y, Z, T = XY/Z
D = -121665 * pow(121666, -1, P) % P
ORDER = 2**252 + 27742317777372353535851937790883648493


def add(p, q):
    a, b = (p[1] - p[0]) * (q[1] - q[0]), (p[1] + p[0]) * (q[1] + q[0])
    c, d = 2 * D * p[3] * q[3], 2 * p[2] * q[2]
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % P, g * h % P, f * g % P, e * h % P


def times(n, point):
    total = (0, 1, 1, 0)
    for bit in f"{n:b}":
        total = add(total, total)
        if bit == "1":
            total = add(total, point)
    return total


def point(data):
    y, sign = int.from_bytes(data, "little") & 2**255 - 1, data[31] >> 7
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P:
        x = x * pow(2, (P - 1) // 4, P) % P
    expect((x * x - square) % P == 0 and y < P, "a signature that is no point")
    x = -x % P if x & 1 != sign else x
    return x, y, 1, x * y % P


BASE = point((4 * pow(5, -1, P) % P).to_bytes(32, "little"))


def is_signed(key, message, signature):
    r, s = signature[:32], int.from_bytes(signature[32:], "little")
    k = int.from_bytes(hashlib.sha512(r + key + message).digest(), "little") % ORDER
    left, right = times(s, BASE), add(point(r), times(k, point(key)))
    same = [(left[i] * right[2] - right[i] * left[2]) % P == 0 for i in (0, 1)]
    return s < ORDER and all(same)


def root(peaks):
    if not peaks:
        return sha256()
    hashed = peaks[-1]
    for peak in reversed(peaks[:-1]):
        hashed = sha256(b"\1", peak, hashed)
    return hashed


class Log:
    def __init__(self):
        self.head, self.size, self.peaks = bytes(32), 0, []
        self.open_calls, self.signer, self.gone = set(), None, {}

    def push(self, leaf):
        size = self.size
        while size & 1:
            leaf, size = sha256(b"\1", self.peaks.pop(), leaf), size >> 1
        self.peaks.append(leaf)
        self.size += 1

    def header(self, data, segment):
        expect(data[:12] == b"PSTAUDIT\0\0\0\2", "magic or version")
        body_end = 16 + number(data, 12, 4)
        area = body_end + 4
        end = area + number(data, body_end, 4)
        head = sha256(b"postern-audit/segment/v2\0", data[:body_end])
        expect(head == data[end : end + 32], "header hash")
        header = json.loads(data[16:body_end])
        follows = {
            "first_index": self.size,
            "previous_head": self.head.hex(),
            "segment": segment,
            "tree": {"size": self.size, "peaks": [peak.hex() for peak in self.peaks]},
        }
        expect(all(header[name] == value for name, value in follows.items()), "header does not follow")
        self.signer = self.signer or header["signer"]
        expect(header["signer"] == self.signer, "another signer")
        expect(header["signer"].split("+")[0] == header["origin"], "signer is not the origin")
        self.keys(header["keys"], data[area:end], segment)
        self.head, self.segment, self.origin = head, segment, header["origin"]
        self.key, self.since = base64.b64decode(self.signer.split("+", 2)[2])[1:], self.size
        expect(len(self.key) == 32, "key of the signer")
        self.is_last_a_signature = False
        self.is_sealed, self.counter, self.there = header["keys"] is not None, 0, {}
        return end + 32

    def keys(self, named, area, segment):
        self.destroyed = set()
        if named is None:
            expect(area == b"", "keys in a plaintext segment")
            return
        expect(sorted(named) == CLASSES, "keys of other classes")
        at = len(CLASSES)
        for flag, name in zip(area, CLASSES):
            expect(flag in (0, 1), "flag of a key")
            if flag == 0:
                self.destroyed.add(name)
                self.gone.setdefault((segment, name), (0, self.size))
                continue
            key = area[at : at + named[name]["bytes"]]
            expect(sha256(key).hex() == named[name]["sha256"], "wrapped key")
            at += len(key)
        expect(at == len(area), "key area")

    def frame(self, data, at):
        length = number(data, at, 4)
        expect(length ^ 0xFFFFFFFF == number(data, at + 4, 4) and length > 0, "length")
        body, end = data[at + 8 : at + 8 + length], at + 8 + length + 32
        expect(end <= len(data), "the file ends within the frame")
        if body[0] == 1:
            content = sha256(body[42:])
        elif body[0] == 3:
            expect(length == 74, "length of an expired record")
            content = body[42:]
        elif body[0] == 4:
            expect(length == 65, "length of a signature")
        else:
            expect(body[0] == 2, "kind")
        if body[0] in (2, 4):
            digest = sha256(bytes([2 if body[0] == 2 else 3]), body)
        else:
            digest = sha256(b"\0\1", body[1:42], content)
        head = sha256(b"postern-audit/frame/v2\0", self.head, digest)
        expect(head == data[end - 32 : end], "hash")
        if body[0] == 2:
            self.checkpoint(body[17:].decode())
        elif body[0] == 4:
            self.signature(body[1:])
        else:
            self.record(body, at)
            self.push(digest)
            self.record_head = head
        self.head, self.is_last_a_signature = head, body[0] == 4
        return end

    def signature(self, signature):
        message = b"postern-audit/signature/v2\0" + self.head
        if not is_signed(self.key, message, signature):
            self.size = self.since  # the first record that may be somebody else's
            raise Broken("signature")
        self.since = self.size

    def checkpoint(self, note):
        size, hashed = self.open_note(note)
        expect(size == self.size, "checkpoint of another place")
        expect(hashed == root(self.peaks), "root of the tree")

    def open_note(self, note):
        text, signatures = note.rsplit("\n\n", 1)
        expect(signatures.startswith(f"— {self.origin} "), "signature of another name")
        signature = base64.b64decode(signatures.split("\n")[0].rsplit(" ", 1)[1])[4:]
        expect(is_signed(self.key, (text + "\n").encode(), signature), "signature of a checkpoint")
        origin, size, hashed = text.split("\n")[:3]
        expect(origin == self.origin, "checkpoint of another log")
        return int(size), base64.b64decode(hashed)

    def kept_checkpoint(self, note):
        try:
            return self.open_note(note)
        except (Broken, ValueError, IndexError):
            return 0, b""  # it says nothing

    def record(self, body, at):
        code, index, subject, counter = body[1], number(body, 2, 8), number(body, 26, 8), number(body, 34, 8)
        expect(code in TYPES, "entry type")
        expect(index == self.size, "index")
        expect(counter > self.counter if self.is_sealed else counter == 0, "counter")
        self.counter = counter
        is_there, name = body[0] == 1, TYPES[code]
        expected = self.there.setdefault(name, name not in self.destroyed if self.is_sealed else is_there)
        expect(expected == is_there, "content is destroyed in part")
        if not is_there:
            self.gone.setdefault((self.segment, name), (at, index))
        if code == ADMITTED:
            self.open_calls.add(index)
        elif code in ENDS:
            expect(subject in self.open_calls, "call was not open")
            self.open_calls.remove(subject)
        elif code == EXPIRED:
            expect(subject & 0xFFFFFFFF < self.segment, "segment is not finished")
            self.gone.pop((subject & 0xFFFFFFFF, CLASSES[subject >> 32]), None)
        if code not in ENDS and code != EXPIRED:
            expect(subject == NOTHING, "subject")


def read_kept(directory):
    try:
        with open(os.path.join(directory, "checkpoint"), encoding="utf-8") as file:
            return file.read()
    except (OSError, ValueError):
        return ""


def verify(directory):
    names = sorted(name for name in os.listdir(directory) if name.endswith(".seg"))
    log = Log()
    note, kept = read_kept(directory), (0, b"")
    for segment, name in enumerate(names):
        at = 0
        try:
            expect(re.fullmatch(r"[0-9]{8}\.seg", name) and int(name[:8]) == segment, "missing or misnamed")
            with open(os.path.join(directory, name), "rb") as file:
                data = file.read()
            at = log.header(data, segment)
            kept = log.kept_checkpoint(note)
            while at < len(data):
                at = log.frame(data, at)
                if log.size == kept[0]:
                    expect(root(log.peaks) == kept[1], "another tree than the checkpoint beside it has")
            expect(log.is_last_a_signature, "not signed")
        except (Broken, ValueError, KeyError, IndexError) as reason:
            sys.exit(f"{segment:08}.seg byte {at} record {log.size}: {reason}")
    for (segment, name), (at, index) in log.gone.items():
        sys.exit(f"{segment:08}.seg byte {at} record {index}: content of {name} is gone without a record")
    if log.size < kept[0]:
        sys.exit(f"{directory} ends after {log.size} records, its checkpoint covers {kept[0]}")
    if log.size == 0:
        sys.exit(f"{directory} has no record")
    return log.size, log.record_head.hex(), root(log.peaks).hex()


if __name__ == "__main__":
    print(*verify(sys.argv[1]))
