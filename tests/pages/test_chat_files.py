"""Images and text files of chat messages, in a real browser."""

import base64
import struct
import zlib
from typing import Any

import pytest
from playwright.async_api import Page, expect

from browser import check_accessible, fits_its_width
from fakes import FakeUpstream
from live import LiveProxy, StartProxy
from pages.chatting import answers, ask, choose, complete, questions, streamed
from pages.conftest import Show

VISION = {"upstreams": {"cloud": {"capabilities": ["tools", "vision"]}}}


def png(width: int, height: int) -> bytes:
    """A grey PNG image."""

    def part(kind: bytes, data: bytes) -> bytes:
        checksum = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    rows = (b"\0" + b"\x80" * width) * height
    return (
        b"\x89PNG\r\n\x1a\n"
        + part(b"IHDR", header)
        + part(b"IDAT", zlib.compress(rows))
        + part(b"IEND", b"")
    )


def file(name: str, content: bytes, kind: str = "") -> dict[str, Any]:
    return {"name": name, "mimeType": kind, "buffer": content}


PHOTO = file("photo.png", png(30, 20), "image/png")
NOTES = file("notes.py", b"print('```')\n", "text/x-python")


async def attach(page: Page, *files: dict[str, Any]) -> None:
    await page.locator("#files").set_input_files(list(files))


async def test_image_and_text_file_are_sent_and_stored(
    start: StartProxy, show: Show, cloud: FakeUpstream
) -> None:
    proxy = await start(VISION)
    cloud.answer = streamed("A grey image.")
    page = await show(proxy.origin)
    await choose(page, "Cloud")
    await attach(page, PHOTO, NOTES)
    await expect(page.get_by_role("img", name="Image: photo.png")).to_be_visible()
    await check_accessible(page)
    await ask(page, "What is this?")
    await complete(page)
    await expect(page.locator("#attachments")).to_be_hidden()
    ((message,),) = [call.json["messages"] for call in cloud.calls]
    text, image = message["content"]
    assert text == {
        "type": "text",
        "text": "File notes.py:\n````py\nprint('```')\n````\n\nWhat is this?",
    }
    prefix, _, data = image["image_url"]["url"].partition(",")
    assert (image["type"], prefix) == ("image_url", "data:image/png;base64")
    assert base64.b64decode(data) == PHOTO["buffer"]
    await page.reload()
    await expect(questions(page).get_by_role("img", name="Image: photo.png")).to_be_visible()
    await expect(questions(page)).to_contain_text("notes.py")
    await check_accessible(page)
    # A text file alone is text, and what was sent before is sent again.
    await attach(page, file("data.csv", b"a,b\n1,2"))
    await ask(page, "And this?")
    await complete(page, 2)
    contents = [message["content"] for message in cloud.calls[-1].json["messages"]]
    assert len(contents[0]) == 2
    assert contents[2] == "File data.csv:\n```csv\na,b\n1,2\n```\n\nAnd this?"


async def test_image_without_text_can_be_sent_and_edited(
    start: StartProxy, show: Show, cloud: FakeUpstream
) -> None:
    proxy = await start(VISION)
    cloud.answer = streamed("A grey image.")
    page = await show(proxy.origin)
    await choose(page, "Cloud")
    await attach(page, PHOTO)
    await page.get_by_role("button", name="Send").click()
    await complete(page)
    assert [part["type"] for part in cloud.calls[0].json["messages"][0]["content"]] == ["image_url"]
    await page.get_by_role("button", name="Edit").click()
    await page.get_by_label("Edit the question").fill("What is it?")
    await page.keyboard.press("Enter")
    await expect(answers(page)).to_contain_text("A grey image.")
    await cloud.called(2)
    content = cloud.calls[1].json["messages"][0]["content"]
    assert [part["type"] for part in content] == ["text", "image_url"]


@pytest.mark.parametrize("size", [(3000, 1500), (100, 5000)])
async def test_large_image_is_reduced(
    start: StartProxy, show: Show, cloud: FakeUpstream, size: tuple[int, int]
) -> None:
    proxy = await start(VISION)
    cloud.answer = streamed("A grey image.")
    page = await show(proxy.origin)
    await choose(page, "Cloud")
    await attach(page, file("large.png", png(*size), "image/png"))
    await page.get_by_role("img", name="Image: large.png").wait_for()
    await ask(page, "What is this?")
    await complete(page)
    url = cloud.calls[0].json["messages"][0]["content"][1]["image_url"]["url"]
    assert url.startswith("data:image/png;base64,")
    width, height = struct.unpack(">II", base64.b64decode(url.partition(",")[2])[16:24])
    assert max(width, height) == 2048
    assert abs(width / height - size[0] / size[1]) < 0.01


@pytest.mark.parametrize(
    ("given", "error"),
    [
        (file("bad.png", b"no image", "image/png"), "bad.png cannot be read as an image."),
        (file("x.tiff", b"II*", "image/tiff"), "x.tiff: only PNG, JPEG, WebP and GIF"),
        (file("x.exe", b"MZ", "application/x-msdownload"), "only images and text files"),
        (file("x.txt", b"\xff\xfe\x00", "text/plain"), "x.txt is not a text file in UTF-8."),
        (file("x.txt", b"x" * 500_001, "text/plain"), "A text file can have at most 500.0 kB."),
        (file("x.svg", b"<svg/>", "image/svg+xml"), "x.svg: only PNG, JPEG, WebP and GIF"),
    ],
)
async def test_unusable_file_is_refused_by_name(
    proxy: LiveProxy, show: Show, given: dict[str, Any], error: str
) -> None:
    page = await show(proxy.origin)
    await attach(page, PHOTO, given)
    await expect(page.locator("#attachment-errors")).to_contain_text(error)
    await expect(page.locator("#attachments li")).to_have_count(1)
    await page.get_by_role("button", name="Remove photo.png").click()
    await expect(page.locator("#attachments")).to_be_hidden()


async def test_number_of_files_is_limited(proxy: LiveProxy, show: Show) -> None:
    page = await show(proxy.origin, viewport={"width": 390, "height": 844})
    await attach(page, *[file(f"{n}.txt", b"x") for n in range(9)])
    await expect(page.locator("#attachment-errors")).to_contain_text(
        "A message can have at most 8 files. 8.txt was left out."
    )
    await expect(page.locator("#attachments li")).to_have_count(8)
    assert await fits_its_width(page)


# A paste or a drop of files: browsers fill the event's own DataTransfer.
TRANSFER = """([kind, type, text]) => {
  const transfer = new DataTransfer()
  const bytes = Uint8Array.from(atob(type), (character) => character.charCodeAt(0))
  transfer.items.add(new File([bytes], 'pasted.png', { type: 'image/png' }))
  if (text) transfer.setData('text/plain', text)
  const options = { bubbles: true, cancelable: true }
  const event = kind === 'paste'
    ? new ClipboardEvent(kind, { ...options, clipboardData: transfer })
    : new DragEvent(kind, { ...options, dataTransfer: transfer })
  return !document.querySelector('#prompt').dispatchEvent(event)
}"""


@pytest.mark.parametrize("kind", ["paste", "drop"])
async def test_image_can_be_pasted_and_dropped(proxy: LiveProxy, show: Show, kind: str) -> None:
    page = await show(proxy.origin)
    image = base64.b64encode(png(30, 20)).decode()
    if kind == "drop":
        assert await page.evaluate(TRANSFER, ["dragover", image, ""])
        await expect(page.locator(".chat.drop")).to_be_visible()
    assert await page.evaluate(TRANSFER, [kind, image, ""])
    await expect(page.get_by_role("img", name="Image: pasted.png")).to_be_visible()
    await expect(page.locator(".chat.drop")).to_have_count(0)


async def test_text_wins_over_its_image_in_a_paste(proxy: LiveProxy, show: Show) -> None:
    page = await show(proxy.origin)
    image = base64.b64encode(png(30, 20)).decode()
    assert not await page.evaluate(TRANSFER, ["paste", image, "a\tb"])
    await expect(page.locator("#attachments li")).to_have_count(0)
