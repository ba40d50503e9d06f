"""The page: what stands where, and what happens at a click. Only this file knows Gradio."""

import atexit
import contextlib
import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FILES = tempfile.mkdtemp(prefix="jaxdiff-app-")
"""Where Gradio puts uploads; it goes when the process ends."""
atexit.register(shutil.rmtree, FILES, ignore_errors=True)
os.environ |= {"GRADIO_TEMP_DIR": FILES, "GRADIO_ANALYTICS_ENABLED": "False"}  # Gradio reads them as it is imported

import gradio as gr
import numpy as np

from jaxdiff.app import picture as pictures
from jaxdiff.app import show, texts
from jaxdiff.app.wish import MASK, Wish, wanted
from jaxdiff.app.work import Commands, Failure, Order, Result, Stopped, measured, runs
from jaxdiff.files import from_uint8
from jaxdiff.photos import centre, choose

__all__ = ["Site"]

HERE = Path(__file__).parent
FONTS, MONO = ["system-ui", "sans-serif"], ["ui-monospace", "monospace"]
"""Of the machine that shows the page; Gradio's own come from the net."""
LOCAL: dict[str, Any] = {
    "share": False,
    "ssr_mode": False,
    "run_history": False,
    "enable_monitoring": False,
    "footer_links": [],
    "max_file_size": pictures.MOST_BYTES,
    "prevent_thread_lock": True,
    "quiet": True,
}
"""How Gradio serves: nothing goes elsewhere, nothing is recorded."""
HOUR = 3600
"""Seconds after which an upload that nobody has read is deleted."""
WAITING = 16
"""Most visitors in the queue."""


class Site:
    """The page, and what it remembers of its visitors."""

    def __init__(self, commands: Commands, base: Wish) -> None:
        """Nothing is built before ``served``."""
        self.commands, self.base = commands, base
        self.stops: dict[str, threading.Event] = {}

    @contextlib.contextmanager
    def served(self, host: str, port: int, *, browser: bool = False) -> Iterator[str]:
        """Serve the page within the block; yields its address.

        Raises:
            ValueError: if nothing can listen there.
        """
        page = self.page()
        try:
            _, address, _ = page.launch(server_name=host, server_port=port, inbrowser=browser, **LOCAL, **_looks())
        except OSError:
            raise ValueError(f"nothing can listen on port {port} of {host}; choose another --port or --host.") from None
        try:
            yield address
        finally:
            for stop in self.stops.values():
                stop.set()
            page.close(verbose=False)

    def page(self) -> gr.Blocks:
        """The layout."""
        with gr.Blocks(title="jaxdiff", analytics_enabled=False, delete_cache=(HOUR, HOUR)) as page:
            gr.Markdown(texts.TITLE)
            held = gr.State(None)
            with gr.Row():
                with gr.Column(scale=5, min_width=320):
                    photo = self._picture(held)
                    task, already, paint = self._task()
                    look = gr.HTML()
                    method, numbers = self._method()
                with gr.Column(scale=6, min_width=320, elem_id="right"):
                    with gr.Row():
                        start = gr.Button("Restore", variant="primary", elem_id="start")
                        stop = gr.Button("Stop", variant="stop", interactive=False, elem_id="stop")
                    live = gr.HTML(texts.READY, elem_id="live", min_height=80)
                    with gr.Accordion("Repeat it exactly", open=False):
                        gr.Markdown(texts.REPEAT)
                        line = gr.Code(language="shell", label="Command line", wrap_lines=True, elem_id="command")
                        lines = gr.Code(language="python", label="Python", wrap_lines=True, elem_id="script")
            self._previews(held, photo, task, already, paint, look, numbers)
            asked = [held, photo, task, already, paint, method, *numbers]
            begun = start.click(self._begin, None, [start, stop], queue=False, api_visibility="private")
            restored = begun.then(
                self._restore,
                asked,
                [live, line, lines, start, stop],
                concurrency_limit=1,
                concurrency_id="run",
                show_progress_on=live,
                api_visibility="private",
            )
            restored.failure(self._ready, None, [start, stop], queue=False, api_visibility="private")  # a full queue
            stop.click(self._stop, None, None, queue=False, api_visibility="private")
            page.unload(self._leave)
        page.queue(max_size=WAITING, default_concurrency_limit=1)
        return page

    def _picture(self, held: gr.State) -> gr.HTML:
        gr.Markdown("### 1. Picture")
        with gr.Row():
            file = gr.File(show_label=False, file_types=["image"], height=140, scale=2, elem_id="upload")
            example = gr.Button("Use the example face", elem_id="example", min_width=200, scale=1)
        fault = gr.HTML(elem_id="fault")
        photo = _canvas("Size of the frame", "frame", texts.FRAME, low=5, value=100)
        file.upload(self._upload, file, [file, held, photo, fault], show_progress_on=file, api_visibility="private")
        example.click(self._example, None, [held, photo, fault], api_visibility="private")
        return photo

    def _task(self) -> tuple[gr.Radio, gr.Checkbox, gr.HTML]:
        gr.Markdown("### 2. Damage")
        already = gr.Checkbox(label="The picture is damaged already", info=texts.ALREADY, elem_id="already")
        task = gr.Radio(texts.tasks(), value="inpaint_box", label="Kind of damage", elem_id="tasks")
        said = gr.Markdown(texts.of_task("inpaint_box"))
        task.change(texts.of_task, task, said, api_visibility="private")
        paint = _canvas("Width of the brush", "paint", texts.PAINT, low=2, value=10, high=50, tools=True, visible=False)
        return task, already, paint

    def _method(self) -> tuple[gr.Dropdown, list[Any]]:
        gr.Markdown("### 3. Method")
        method = gr.Dropdown(texts.methods(), value="", label="Method", info=texts.METHOD, elem_id="method")
        said = gr.Markdown(texts.of_method(""))
        method.change(texts.of_method, method, said, api_visibility="private")
        base = self.base
        with gr.Row():
            calls = gr.Number(base.calls, label="Network calls", info=texts.CALLS, precision=0, elem_id="calls")
            draws = gr.Slider(1, 16, base.draws, step=1, label="Draws", info=texts.DRAWS, elem_id="draws")
        with gr.Row():
            seed = gr.Number(base.seed, label="Seed", info=texts.SEED, precision=0, elem_id="seed")
            noise = gr.Textbox("", label="Noise σ", info=texts.NOISE, placeholder="default", elem_id="noise")
        return method, [calls, draws, seed, noise]

    def _previews(self, held, photo, task, already, paint, look, numbers) -> None:  # type: ignore[no-untyped-def]
        """What changes as the visitor chooses."""
        options: dict[str, Any] = {
            "trigger_mode": "always_last",
            "show_progress": "hidden",
            "api_visibility": "private",
        }
        options |= {"concurrency_id": "look", "concurrency_limit": 1}
        asked = [held, photo, task, already, paint, *numbers]
        for framed in (photo.settled, held.change):
            framed(self._framed, [held, photo], paint, **options).then(self._look, asked, look, **options)
        task.change(lambda task: gr.HTML(visible=task == MASK), task, paint, api_visibility="private")
        seed, noise = numbers[2:]
        for changed in (task.change, already.change, paint.settled, seed.change, noise.change):
            changed(self._look, asked, look, **options)

    # What happens.

    def _upload(self, file: str | None) -> tuple[Any, ...]:
        try:
            return (None, *self._taken(pictures.read(file or "")))
        except ValueError as error:
            return None, None, "", show.said(str(error), "fault")
        finally:
            if file is not None:
                Path(file).unlink(missing_ok=True)  # it has been read: it need not wait for the end

    def _example(self) -> tuple[Any, ...]:
        picture = pictures.example()
        return picture, show.framing(picture, centre(picture)), ""  # it is framed as faces64 wants it

    def _taken(self, picture: np.ndarray) -> tuple[Any, ...]:
        frame, note = choose(from_uint8(picture))
        return picture, show.framing(picture, frame), show.said((note or "").capitalize())

    def _framed(self, held: np.ndarray | None, photo: str) -> str:
        return "" if held is None else show.painting(pictures.framed(held, pictures.framing_of(photo, held)))

    def _order(self, held, photo, task, already, paint, method, calls, draws, seed, noise) -> Order:  # type: ignore[no-untyped-def]
        if held is None:
            raise ValueError("there is no picture yet: drop one, or use the example face.")
        shape = self.commands.denoiser.image_shape
        found = pictures.framing_of(photo, held)
        whole = held.shape[:2] == (found.side, found.side)
        frame = found if shape[0] == shape[1] and not whole else None
        wish = wanted(self.base, task, frame, already, method or "", noise, calls=calls, draws=draws, seed=seed)
        return Order(wish, held, pictures.hidden(paint, (shape[0], shape[1])) if task == MASK else None)

    def _look(self, held, photo, task, already, paint, *numbers) -> str:  # type: ignore[no-untyped-def]
        """The measurement, beside the truth."""
        if held is None:
            return ""
        try:
            view, truth = measured(self.commands, self._order(held, photo, task, already, paint, "", *numbers))
        except ValueError as error:
            return show.said(texts.on_page(str(error)), "note" if task == MASK else "fault")
        shown = [] if truth is None else [("your picture", texts.size(truth), show.png(truth))]
        return show.figures([*shown, ("the measurement", texts.size(view), show.png(view))])

    def _begin(self, request: gr.Request) -> tuple[Any, ...]:
        self.stops[request.session_hash or ""] = threading.Event()
        return gr.Button(interactive=False), gr.Button(interactive=True)

    def _restore(self, request: gr.Request, *asked: Any) -> Iterator[tuple[Any, ...]]:
        """Show x̂₀ as it forms, then what came out."""
        stop, kept = self.stops.get(request.session_hash or "") or threading.Event(), gr.skip()
        busy = (kept, kept, kept, kept)
        last = ""
        yield show.said(texts.COMPILING), *busy
        try:
            outcome = None
            for outcome in runs(self.commands, self._order(*asked), stop):
                if isinstance(outcome, Result | Failure | Stopped):
                    break
                last = show.forming(outcome.x0, outcome.first, outcome.done, outcome.total)
                yield last, *busy
        except ValueError as error:
            outcome = Failure(str(error))
        done = self._ready()
        if isinstance(outcome, Result):
            yield show.results(outcome), outcome.command, outcome.script, *done
        elif isinstance(outcome, Failure):
            yield show.said(texts.on_page(outcome.sentence), "fault"), kept, kept, *done
        else:
            yield show.said(texts.STOPPED) + last, kept, kept, *done

    def _ready(self) -> tuple[Any, ...]:
        return gr.Button(interactive=True), gr.Button(interactive=False)

    def _stop(self, request: gr.Request) -> None:
        if stop := self.stops.get(request.session_hash or ""):
            stop.set()

    def _leave(self, request: gr.Request) -> None:
        if stop := self.stops.pop(request.session_hash or "", None):
            stop.set()


def _looks() -> dict[str, Any]:
    theme = gr.themes.Default(font=FONTS, font_mono=MONO).set(block_info_text_color="*neutral_500")
    return {"theme": theme, "css": (HERE / "page.css").read_text("utf-8") + texts.tiles()}


def _canvas(
    label: str,
    name: str,
    note: str,
    *,
    low: int,
    value: int,
    high: int = 100,
    tools: bool = False,
    visible: bool = True,
) -> gr.HTML:
    """A canvas with a slider; see canvas.js."""
    buttons = '<button type="button" name="undo">Undo</button><button type="button" name="clear">Clear</button>'
    return gr.HTML(
        "",
        html_template=f'<div class="jd-canvas"><p class="jd-note">{note}</p>'
        f'<canvas width="640" height="360" role="img" aria-label="{note}"></canvas>'
        f'<div class="jd-tools"><label for="jd-{name}">{label}</label><input id="jd-{name}" type="range" min="{low}" '
        f'max="{high}" value="{value}">{buttons * tools}</div></div>',
        js_on_load=(HERE / "canvas.js").read_text("utf-8"),
        elem_id=name,
        visible=visible,
    )
