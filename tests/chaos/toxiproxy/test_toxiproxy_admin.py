"""The admin API: routes, statuses, shapes, defaults and errors, the same on the embedded server and on the real one."""

from __future__ import annotations

import asyncio
import re

import pytest

LATENCY = {"type": "latency", "attributes": {"latency": 10}}


def test_version(play):
    """The version comes as JSON, with the space after the colon that clients parse."""

    async def scenario(lab):
        answer = await lab.admin("GET", "/version")
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("application/json")
        assert answer.text == '{"version": "2.12.0"}\n'

    play(scenario)


def test_create_fills_in_the_defaults(play):
    """A created proxy is enabled, has a real port, and no toxics."""

    async def scenario(lab):
        made = await lab.admin("POST", "/proxies", {"name": "p", "upstream": "127.0.0.1:9"})
        assert made.status_code == 201
        assert made.headers["content-type"] == "application/json"
        proxy = made.json()
        assert (proxy["name"], proxy["upstream"], proxy["enabled"], proxy["toxics"]) == ("p", "127.0.0.1:9", True, [])
        assert re.fullmatch(r".*:[1-9]\d*", proxy["listen"])
        shown = await lab.admin("GET", "/proxies/p")
        assert (shown.status_code, shown.json()) == (200, proxy)
        assert (await lab.admin("GET", "/proxies")).json()["p"] == proxy
        assert (await lab.admin("DELETE", "/proxies/p")).status_code == 204

    play(scenario)


@pytest.mark.parametrize("listen", ["", ":0", "127.0.0.1:0", "localhost:0"])
def test_listen_takes_a_free_port(play, listen):
    """Every way to ask for a free port gives one that can be connected to."""

    async def scenario(lab):
        proxy = await lab.proxy(listen=listen)
        pipe = await lab.pipe({"listen": "127.0.0.1:" + proxy["listen"].rpartition(":")[2]})
        pipe.client_out.write(b"x")
        assert await pipe.server_in.readexactly(1) == b"x"

    play(scenario)


@pytest.mark.parametrize(
    ("body", "status", "error"),
    [
        (b"", 400, "bad request body: "),
        (b"nonsense", 400, "bad request body: "),
        (b"[1]", 400, "bad request body: "),
        (b'{"name": 1, "upstream": "a:1"}', 400, "bad request body: "),
        (b'{"name": "q", "upstream": "a:1", "enabled": "yes"}', 400, "bad request body: "),
        (b"{}", 400, "missing required field: name"),
        (b"null", 400, "missing required field: name"),
        (b'{"name": "q"}', 400, "missing required field: upstream"),
        (b'{"name": "p", "upstream": "a:1"}', 409, "proxy already exists"),
        (b'{"name": "q", "upstream": "a:1", "listen": "no port"}', 500, ""),
    ],
)
def test_create_refuses(play, body, status, error):
    """Each wrong creation gets its status and an error object on a line of its own."""

    async def scenario(lab):
        await lab.proxy()
        answer = await lab.admin("POST", "/proxies", content=body)
        assert answer.status_code == status
        assert answer.text.endswith("}\n")
        said = answer.json()
        assert set(said) == {"error", "status"}
        assert said["status"] == status
        assert said["error"].startswith(error)
        assert set((await lab.admin("GET", "/proxies")).json()) == {"p"}

    play(scenario)


def test_a_taken_address_is_500(play):
    """Two proxies cannot listen at one address; the second is not kept."""

    async def scenario(lab):
        first = await lab.proxy()
        answer = await lab.admin("POST", "/proxies", {"name": "q", "upstream": "a:1", "listen": first["listen"]})
        assert (answer.status_code, answer.json()["status"]) == (500, 500)
        assert "address already in use" in answer.json()["error"].lower()
        assert (await lab.admin("GET", "/proxies/q")).status_code == 404

    play(scenario)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/proxies/none"),
        ("POST", "/proxies/none"),
        ("PATCH", "/proxies/none"),
        ("DELETE", "/proxies/none"),
        ("GET", "/proxies/none/toxics"),
        ("POST", "/proxies/none/toxics"),
        ("GET", "/proxies/none/toxics/t"),
        ("POST", "/proxies/none/toxics/t"),
        ("DELETE", "/proxies/none/toxics/t"),
    ],
)
def test_an_unknown_proxy_is_404(play, method, path):
    """What is asked of an unknown proxy is not found, whatever the body."""

    async def scenario(lab):
        answer = await lab.admin(method, path)
        assert answer.status_code == 404
        assert answer.json() == {"error": "proxy not found", "status": 404}

    play(scenario)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("PUT", "/proxies", 405),
        ("DELETE", "/proxies", 405),
        ("PUT", "/proxies/p", 405),
        ("GET", "/reset", 405),
        ("GET", "/populate", 405),
        ("POST", "/version", 405),
        ("DELETE", "/proxies/p/toxics", 405),
        ("PUT", "/proxies/p/toxics/t", 405),
        ("GET", "/", 404),
        ("GET", "/nothing", 404),
        ("GET", "/proxies/p/nothing", 404),
        ("GET", "/proxies/p/toxics/t/more", 404),
    ],
)
def test_wrong_methods_and_paths(play, method, path, status):
    """A wrong method is 405 and an unknown path 404."""

    async def scenario(lab):
        assert (await lab.admin(method, path)).status_code == status

    play(scenario)


def test_browsers_are_kept_out(play):
    """A web page cannot drive the server: the user agents of browsers are refused."""

    async def scenario(lab):
        answer = await lab.admin("GET", "/proxies", headers={"user-agent": "Mozilla/5.0"})
        assert answer.status_code == 403

    play(scenario)


@pytest.mark.parametrize("method", ["POST", "PATCH"])
def test_update_moves_a_proxy(play, method):
    """An update changes upstream and state, ignores the name, and leaves out what is not given."""

    async def scenario(lab):
        proxy = await lab.proxy()
        other = await lab.upstream(_say(b"other"))
        answer = await lab.admin(method, "/proxies/p", {"upstream": other, "name": "renamed"})
        assert answer.status_code == 200
        assert {**proxy, "upstream": other} == answer.json()
        reader, _ = await lab.connect(proxy)
        assert await reader.read() == b"other"
        off = (await lab.admin(method, "/proxies/p", {"enabled": False})).json()
        assert (off["enabled"], off["listen"], off["upstream"]) == (False, proxy["listen"], other)
        with pytest.raises(ConnectionError):
            await lab.connect(proxy)
        moved = (await lab.admin(method, "/proxies/p", {"enabled": True, "listen": "127.0.0.1:0"})).json()
        assert moved["listen"] != "127.0.0.1:0"
        reader, _ = await lab.connect(moved)
        assert await reader.read() == b"other"

    play(scenario)


def test_update_refuses_garbage(play):
    """A malformed update is 400 and changes nothing."""

    async def scenario(lab):
        proxy = await lab.proxy()
        for body in (b"", b"nonsense", b'{"enabled": 1}', b'{"upstream": []}'):
            answer = await lab.admin("POST", "/proxies/p", content=body)
            assert answer.status_code == 400
            assert answer.json()["error"].startswith("bad request body: ")
        assert (await lab.admin("GET", "/proxies/p")).json() == proxy

    play(scenario)


def test_a_proxy_made_disabled_listens_when_enabled(play):
    """enabled=false makes a proxy that refuses connections until it is enabled."""

    async def scenario(lab):
        proxy = await lab.proxy(await lab.upstream(_say(b"hello")), enabled=False)
        assert proxy["enabled"] is False
        enabled = (await lab.admin("POST", "/proxies/p", {"enabled": True})).json()
        assert enabled["enabled"] is True
        reader, _ = await lab.connect(enabled)
        assert await reader.read() == b"hello"

    play(scenario)


def test_a_toxic_gets_its_defaults(play):
    """Name, stream, toxicity and attributes are filled in and shown, alone and in the list."""

    async def scenario(lab):
        await lab.proxy()
        answer = await lab.admin("POST", "/proxies/p/toxics", {"type": "latency"})
        assert answer.status_code == 200
        expected = {
            "name": "latency_downstream",
            "type": "latency",
            "stream": "downstream",
            "toxicity": 1,
            "attributes": {"latency": 0, "jitter": 0},
        }
        assert answer.json() == expected
        shown = await lab.admin("GET", "/proxies/p/toxics/latency_downstream")
        assert (shown.status_code, shown.json()) == (200, expected)
        assert (await lab.admin("GET", "/proxies/p/toxics")).json() == [expected]
        assert (await lab.admin("GET", "/proxies/p")).json()["toxics"] == [expected]

    play(scenario)


@pytest.mark.parametrize(
    ("type_", "attributes"),
    [
        ("latency", {"latency": 5, "jitter": 2}),
        ("bandwidth", {"rate": 1000}),
        ("slow_close", {"delay": 5}),
        ("timeout", {"timeout": 5}),
        ("slicer", {"average_size": 10, "size_variation": 2, "delay": 5}),
        ("limit_data", {"bytes": 5}),
        ("reset_peer", {"timeout": 5}),
    ],
)
@pytest.mark.parametrize("stream", ["upstream", "downstream"])
def test_every_type_of_toxic(play, type_, attributes, stream):
    """Each type is taken in both directions and shown with its attributes; unknown attributes are ignored."""

    async def scenario(lab):
        await lab.proxy()
        made = await lab.toxic(type_, stream=stream, toxicity=0.5, **attributes, unknown=1)
        assert made == {
            "name": f"{type_}_{stream}",
            "type": type_,
            "stream": stream,
            "toxicity": 0.5,
            "attributes": attributes,
        }

    play(scenario)


@pytest.mark.parametrize(
    ("body", "status", "error"),
    [
        (b"", 400, "bad request body: "),
        (b'{"type": ', 400, "bad request body: "),
        (b'{"type": 5}', 400, "bad request body: "),
        (b'{"toxicity": "all", "stream": "x"}', 400, "bad request body: "),
        (b'{"type": "none", "stream": "x"}', 400, "stream was invalid, can be either upstream or downstream"),
        (b'{"type": "none", "name": "taken"}', 400, "invalid toxic type"),
        (b"{}", 400, "invalid toxic type"),
        (b'{"type": "timeout", "name": "taken", "attributes": {"timeout": "x"}}', 409, "toxic already exists"),
        (b'{"type": "timeout", "name": "taken", "stream": "upstream"}', 409, "toxic already exists"),
        (b'{"type": "timeout", "attributes": {"timeout": "x"}}', 400, "bad request body: "),
        (b'{"type": "timeout", "attributes": {"timeout": 1.5}}', 400, "bad request body: "),
        (b'{"type": "timeout", "attributes": {"timeout": true}}', 400, "bad request body: "),
        (b'{"type": "timeout", "attributes": {"timeout": 9223372036854775808}}', 400, "bad request body: "),
    ],
)
def test_a_wrong_toxic_is_refused_in_order(play, body, status, error):
    """JSON is checked before stream, stream before type, type before duplicate, duplicate before attributes."""

    async def scenario(lab):
        await lab.proxy()
        await lab.toxic("latency", name="taken")
        answer = await lab.admin("POST", "/proxies/p/toxics", content=body)
        assert answer.status_code == status
        assert answer.json()["status"] == status
        assert answer.json()["error"].startswith(error)
        assert len((await lab.admin("GET", "/proxies/p/toxics")).json()) == 1

    play(scenario)


def test_toxics_are_listed_upstream_first(play):
    """The list has upstream toxics before downstream ones, each in the order in which they were added."""

    async def scenario(lab):
        await lab.proxy()
        for name, stream in (("a", "downstream"), ("b", "upstream"), ("c", "downstream"), ("d", "upstream")):
            await lab.toxic("latency", name=name, stream=stream)
        listed = (await lab.admin("GET", "/proxies/p/toxics")).json()
        assert [toxic["name"] for toxic in listed] == ["b", "d", "a", "c"]

    play(scenario)


@pytest.mark.parametrize("method", ["POST", "PATCH"])
def test_an_update_of_a_toxic_merges(play, method):
    """An update touches the attributes that it names, and toxicity; type, stream and name stay."""

    async def scenario(lab):
        await lab.proxy()
        before = await lab.toxic("latency", latency=10, jitter=3)
        path = "/proxies/p/toxics/latency_downstream"
        answer = await lab.admin(method, path, {"attributes": {"jitter": 4}, "type": "timeout", "stream": "x", "name": "y"})
        assert answer.status_code == 200
        assert answer.json() == {**before, "attributes": {"latency": 10, "jitter": 4}}
        answer = await lab.admin(method, path, {"toxicity": 0.25})
        assert answer.json() == {**before, "toxicity": 0.25, "attributes": {"latency": 10, "jitter": 4}}
        assert (await lab.admin(method, path, content=b"nonsense")).status_code == 400
        assert (await lab.admin(method, path, {"attributes": {"latency": "x"}})).status_code == 400

    play(scenario)


def test_a_removed_toxic_is_gone(play):
    """A toxic is removed with 204, and not found afterwards, by any route."""

    async def scenario(lab):
        await lab.proxy()
        await lab.toxic("latency", latency=10)
        path = "/proxies/p/toxics/latency_downstream"
        removed = await lab.admin("DELETE", path)
        assert (removed.status_code, removed.content) == (204, b"")
        for method in ("GET", "POST", "DELETE"):
            answer = await lab.admin(method, path)
            assert answer.status_code == 404
            assert answer.json() == {"error": "toxic not found", "status": 404}

    play(scenario)


def test_reset_enables_all_and_removes_toxics(play):
    """Reset brings every proxy back without toxics and deletes none."""

    async def scenario(lab):
        first = await lab.proxy(name="p")
        await lab.proxy(name="q")
        await lab.toxic("latency", proxy="q", latency=10)
        await lab.admin("POST", "/proxies/p", {"enabled": False})
        answer = await lab.admin("POST", "/reset")
        assert (answer.status_code, answer.content) == (204, b"")
        after = (await lab.admin("GET", "/proxies")).json()
        assert set(after) == {"p", "q"}
        assert after["p"] == first
        assert after["q"]["toxics"] == []

    play(scenario)


def test_populate(play):
    """Populate creates what is new, leaves what is the same alone, and replaces what differs."""

    async def scenario(lab):
        same = await lab.proxy(name="same")
        await lab.proxy(name="other")
        await lab.toxic("latency", proxy="same", latency=10)
        await lab.admin("POST", "/proxies/same", {"enabled": False})
        await lab.toxic("latency", proxy="other", latency=10)
        wanted = [
            {"name": "new", "upstream": "127.0.0.1:9", "listen": "127.0.0.1:0"},
            {"name": "same", "upstream": same["upstream"], "listen": same["listen"], "enabled": True},
            {"name": "other", "upstream": "127.0.0.1:9", "listen": "127.0.0.1:0", "enabled": False},
        ]
        answer = await lab.admin("POST", "/populate", wanted)
        assert answer.status_code == 201
        new, kept, replaced = answer.json()["proxies"]
        assert (new["name"], new["enabled"], new["toxics"]) == ("new", True, [])
        assert kept["enabled"] is False
        assert [toxic["name"] for toxic in kept["toxics"]] == ["latency_downstream"]
        assert (replaced["upstream"], replaced["enabled"], replaced["toxics"]) == ("127.0.0.1:9", False, [])

    play(scenario)


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"nonsense", "bad request body: "),
        (b"{}", "bad request body: "),
        (b'[{"name": "ok", "upstream": "a:1"}, {"upstream": "a:1"}]', "missing required field: name at proxy 2"),
        (b'[{"name": "ok"}]', "missing required field: upstream at proxy 1"),
    ],
)
def test_populate_checks_before_it_creates(play, body, error):
    """A wrong entry is named, and nothing is made."""

    async def scenario(lab):
        answer = await lab.admin("POST", "/populate", content=body)
        assert answer.status_code == 400
        assert answer.headers["content-type"] == "application/json"
        assert answer.json()["status"] == 400
        assert answer.json()["error"].startswith(error)
        assert (await lab.admin("GET", "/proxies")).json() == {}

    play(scenario)


def test_metrics_count_bytes(play):
    """Bytes are counted per direction, with the labels of the real one."""

    async def scenario(lab):
        proxy = await lab.proxy(name="counted")
        pipe = await lab.pipe(proxy)
        pipe.client_out.write(b"x" * 30)
        await pipe.server_in.readexactly(30)
        pipe.server_out.write(b"y" * 500)
        await pipe.client_in.readexactly(500)
        pipe.client_out.close()
        await pipe.server_in.read()
        labels = f'listener="{proxy["listen"]}",proxy="counted",upstream="{proxy["upstream"]}"'
        expected = [
            f'toxiproxy_proxy_{what}_bytes_total{{direction="{direction}",{labels}}} {count}'
            for what in ("received", "sent")
            for direction, count in (("upstream", 30), ("downstream", 500))
        ]
        for _ in range(100):
            answer = await lab.admin("GET", "/metrics")
            assert answer.status_code == 200
            if all(line in answer.text.splitlines() for line in expected):
                return
            await asyncio.sleep(0.02)
        raise AssertionError(f"{expected} not in\n{answer.text}")

    play(scenario)


def _say(text):
    async def handler(reader, writer):
        writer.write(text)
        await writer.drain()

    return handler
