"""A small server that keeps notes: GET /notes, GET /notes/1, POST /notes, DELETE /notes/1, all of it JSON."""

import http.client
import json
import sqlite3
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TABLE = "create table if not exists notes (id integer primary key, text not null, added text not null)"


class Notes:
    """The database."""

    def __init__(self, path):
        self.lock = threading.Lock()
        self.database = sqlite3.connect(path, check_same_thread=False)
        self.database.row_factory = sqlite3.Row
        self.database.execute(TABLE)

    def all(self):
        with self.lock:
            return [dict(row) for row in self.database.execute("select * from notes order by id")]

    def one(self, number):
        with self.lock:
            row = self.database.execute("select * from notes where id = ?", (number,)).fetchone()
        return dict(row) if row is not None else None

    def add(self, text):
        with self.lock, self.database:
            done = self.database.execute(
                "insert into notes (text, added) values (?, datetime('now'))", (text,)
            )
        return self.one(done.lastrowid)

    def remove(self, number):
        with self.lock, self.database:
            return self.database.execute("delete from notes where id = ?", (number,)).rowcount == 1


class Handler(BaseHTTPRequestHandler):
    """The notes by HTTP."""

    notes = None

    def answer(self, code, value):
        body = json.dumps(value, ensure_ascii=False).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def number(self):
        name, _, number = self.path.strip("/").partition("/")
        return int(number) if name == "notes" and number.isdecimal() else None

    def do_GET(self):
        if self.path == "/notes":
            return self.answer(200, self.notes.all())
        found = self.notes.one(self.number())
        return self.answer(200, found) if found else self.send_error(404)

    def do_POST(self):
        try:
            text = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["text"]
        except (KeyError, TypeError, ValueError):
            return self.answer(400, {"error": 'send {"text": "…"}'})
        return self.answer(201, self.notes.add(str(text)))

    def do_DELETE(self):
        return self.answer(200 if self.notes.remove(self.number()) else 404, {})


def ask(port, method, path, value=None):
    connection = http.client.HTTPConnection("localhost", port, timeout=10)
    connection.request(method, path, json.dumps(value) if value is not None else None)
    answer = connection.getresponse()
    return answer.status, answer.read()


def check(port):
    """The app's own test."""
    assert ask(port, "GET", "/notes") == (200, b"[]")
    status, body = ask(port, "POST", "/notes", {"text": "milk £2"})
    note = json.loads(body)
    assert (status, note["id"], note["text"]) == (201, 1, "milk £2"), body
    assert json.loads(ask(port, "GET", "/notes/1")[1]) == note
    assert ask(port, "POST", "/notes", ["no"])[0] == 400
    assert ask(port, "GET", "/notes/7")[0] == 404
    assert ask(port, "DELETE", "/notes/1")[0] == 200
    assert ask(port, "GET", "/notes") == (200, b"[]")
    print("all is well")


def main():
    checking = "--check" in sys.argv[1:]
    Handler.notes = Notes(":memory:" if checking else "/etc/notes.sqlite")
    server = ThreadingHTTPServer(("localhost" if checking else "", 0 if checking else 8000), Handler)
    if not checking:
        server.serve_forever()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    check(server.server_address[1])
    server.shutdown()


if __name__ == "__main__":
    main()
