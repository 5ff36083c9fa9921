"""The server: pages, tiles, tables, uploads, downloads, and the websocket. It computes nothing that needs torch."""

import asyncio
import contextlib
import mimetypes
from collections.abc import AsyncIterator, Iterable
from importlib.resources import files
from pathlib import Path
from typing import Annotated

import numpy as np
from fastapi import FastAPI, Query, Request, WebSocket, WebSocketDisconnect
from fastapi.responses import FileResponse, JSONResponse, Response
from pydantic import ValidationError

from selfseg.apps.studio import pictures, tiles
from selfseg.apps.studio.commands import AT_ONCE, HANDLERS
from selfseg.apps.studio.first_look import start_first_look
from selfseg.apps.studio.messages import WISHES, Notice, schema
from selfseg.apps.studio.project import EXPORTS
from selfseg.apps.studio.recipes import as_command, as_python
from selfseg.apps.studio.results import need_result
from selfseg.apps.studio.runs import PREVIEWS
from selfseg.apps.studio.security import Access, Guard, confine
from selfseg.apps.studio.spec import Spec
from selfseg.apps.studio.states import EDITS, edits_of, write_edits
from selfseg.apps.studio.studio import Studio
from selfseg.apps.studio.volumes import as_nifti
from selfseg.core.errors import InputError, SelfsegError
from selfseg.read import Source

STATIC = Path(str(files("selfseg.apps.studio"))) / "static"

MOST_UPLOAD = 2 * 2**30
"""Bytes of one uploaded file at most."""

MOST_MESSAGE = 2**21
"""Bytes of one message over the websocket at most."""

RAW = "application/octet-stream"

Name = Annotated[str, Query(max_length=1000)]


def make_app(studio: Studio, access: Access) -> FastAPI:
    """Return the application of a studio."""

    @contextlib.asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        studio.spawn(studio.watch())
        studio.spawn(studio.describe_methods())
        yield
        await studio.close()

    app = FastAPI(lifespan=life, docs_url=None, redoc_url=None, openapi_url=None)
    app.add_exception_handler(SelfsegError, _refused)
    app.add_middleware(Guard, access=access)
    _pages(app, studio)
    _tiles(app, studio)
    _tables(app, studio)
    _volumes(app, studio)
    _files(app, studio)
    _socket(app, studio)
    return app


async def _refused(_: Request, error: Exception) -> Response:
    return JSONResponse({"error": str(error)}, 400)


def _pages(app: FastAPI, studio: Studio) -> None:
    @app.get("/")
    def index() -> Response:
        return FileResponse(STATIC / "index.html")

    @app.get("/static/{path:path}")
    def static(path: str) -> Response:
        file = confine(STATIC / path, [STATIC])
        if not file.is_file():
            raise InputError(path, expected="a file of the page", got="none", fix="reload the page")
        kind = "text/javascript" if file.suffix == ".js" else mimetypes.guess_type(file.name)[0]
        return FileResponse(file, media_type=kind)

    @app.get("/api/schema")
    def messages_schema() -> Response:
        return JSONResponse(schema())


def _tiles(app: FastAPI, studio: Studio) -> None:
    @app.get("/api/picture")
    def picture(name: Name) -> Response:
        return JSONResponse(studio.pictures.get(name).facts())

    @app.get("/tiles/image")
    def image_tile(
        name: Name, channels: str, axis: str, frame: int, index: int, level: int, x: int, y: int
    ) -> Response:
        chosen = [int(word) for word in channels.split(",") if word.isdigit()]
        place = tiles.TilePosition(axis, frame, index, level, x, y)
        return Response(tiles.image_tile(studio.pictures.get(name), place, chosen), media_type=RAW)

    @app.get("/tiles/leaves")
    def leaf_tile(run: str, name: Name, axis: str, frame: int, index: int, level: int, x: int, y: int) -> Response:
        stored = need_result(studio.runs.get(run).folder, name, frame)
        studio.shown.set()
        return Response(tiles.leaf_tile(stored, tiles.TilePosition(axis, frame, index, level, x, y)), media_type=RAW)

    @app.get("/tiles/probability")
    def probability_tile(
        run: str, name: Name, axis: str, frame: int, index: int, level: int, x: int, y: int, sources: str = ""
    ) -> Response:
        stored = need_result(studio.runs.get(run).folder, name, frame)
        chosen = [int(word) for word in sources.split(",") if word.isdigit()]
        place = tiles.TilePosition(axis, frame, index, level, x, y)
        return Response(tiles.probability_tile(stored, place, chosen), media_type=RAW)

    @app.get("/api/thumbnail")
    def thumbnail(name: Name) -> Response:
        return Response(pictures.thumbnail(studio.pictures.get(name)), media_type="image/png")


def _tables(app: FastAPI, studio: Studio) -> None:
    @app.get("/api/tree")
    def tree(run: str, name: Name, frame: int = 0) -> Response:
        """Answer with float64 altitudes [2R-1] and sizes [2R-1], then int32 parents [2R-1]."""
        stored = need_result(studio.runs.get(run).folder, name, frame)
        parts = (stored.array("altitudes"), stored.array("sizes"), stored.array("parents"))
        kinds = ("<f8", "<f8", "<i4")
        raw = (np.ascontiguousarray(part, kind).tobytes() for part, kind in zip(parts, kinds, strict=True))
        return Response(b"".join(raw), media_type=RAW)

    @app.get("/api/classes")
    def classes(run: str, name: Name, frame: int = 0) -> Response:
        """Answer with the class of each leaf after merges and splits, uint16 [R]."""
        found = studio.runs.get(run)
        stored = need_result(found.folder, name, frame)
        return Response(edits_of(studio.project, found).classes(stored).astype("<u2").tobytes(), media_type=RAW)

    @app.get("/api/preview")
    def preview(run: str, step: int) -> Response:
        file = studio.runs.get(run).folder / PREVIEWS / f"step-{step:06d}.png"
        if not file.is_file():
            raise InputError(f"preview {step}", expected="one that is kept", got="none", fix="take another")
        return FileResponse(file, media_type="image/png")

    @app.get("/api/recipe")
    def recipe(run: str) -> Response:
        found = studio.runs.get(run)
        write_edits(studio.project, found)
        spec, edits, path = Spec.read(found.folder), edits_of(studio.project, found), found.folder / EDITS
        return JSONResponse(
            {"python": as_python(spec, found.model, edits), "command": as_command(spec, found.model, edits, path)}
        )


def _volumes(app: FastAPI, studio: Studio) -> None:
    @app.get("/api/volume.nii")
    def volume(name: Name, frame: int = 0) -> Response:
        picture = studio.pictures.get(name)
        if not 0 <= frame < len(picture.data):
            raise InputError(f"frame {frame}", expected="one of the picture", got="none", fix="choose another")
        grey = picture.data[frame].mean(-1).astype(picture.data.dtype)
        return Response(as_nifti(grey, picture.image.spacing), media_type=RAW)

    @app.get("/api/labels.nii")
    def label_volume(run: str, name: Name, frame: int = 0) -> Response:
        found = studio.runs.get(run)
        labels = edits_of(studio.project, found).labels(need_result(found.folder, name, frame).leaves())
        return Response(as_nifti(labels, studio.pictures.get(name).image.spacing), media_type=RAW)


def _files(app: FastAPI, studio: Studio) -> None:
    @app.post("/api/upload")
    async def upload(request: Request, name: Name) -> Response:
        path = studio.project.upload_path(name)
        if int(request.headers.get("content-length", MOST_UPLOAD + 1)) > MOST_UPLOAD:
            return JSONResponse({"error": f"{name}: expected at most {MOST_UPLOAD >> 20} MB"}, 413)
        await _receive(request, path)
        try:
            await asyncio.to_thread(_try_reading, path)
        except SelfsegError:
            path.unlink(missing_ok=True)
            raise
        studio.project.refresh()
        await studio.tell_project()
        if run := await asyncio.to_thread(start_first_look, studio.project):
            await studio.tell_run(run)
        return JSONResponse({"name": path.name})

    @app.get("/api/export.zip")
    async def export_zip(folder: str) -> Response:
        from selfseg.apps.studio.takeaway import zip_folder

        home = studio.project.folder / EXPORTS
        found = confine(home / folder, [home])
        if found == home.resolve() or not found.is_dir():
            raise InputError(folder, expected="an export of this project", got="none", fix="export again")
        path = home / f"{found.name}.zip"
        await asyncio.to_thread(zip_folder, found, path)
        return FileResponse(path, media_type="application/zip", filename=path.name)


async def _receive(request: Request, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    count, part = 0, path.with_name(f".{path.name}.part")
    try:
        with part.open("wb") as file:
            async for chunk in request.stream():
                count += len(chunk)
                if count > MOST_UPLOAD:
                    got, fix = "more", "shrink the picture, or start the studio with its path"
                    raise InputError(path.name, expected=f"at most {MOST_UPLOAD >> 20} MB", got=got, fix=fix)
                file.write(chunk)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _try_reading(path: Path) -> None:
    pictures.open_picture(Source(path.stem, path), None)


def _socket(app: FastAPI, studio: Studio) -> None:
    @app.websocket("/ws")
    async def socket(page: WebSocket) -> None:
        await page.accept()
        await studio.greet(page)
        try:
            while True:
                await _hear(studio, page, await page.receive_text())
        except WebSocketDisconnect:
            studio.hub.drop(page)


async def _hear(studio: Studio, page: WebSocket, text: str) -> None:
    """Do what one message asks; what cannot be done is told to the page that asked."""
    try:
        if len(text) > MOST_MESSAGE:
            raise InputError("message", expected="at most 2 MB", got="more", fix="draw shorter strokes")
        wish = WISHES.validate_json(text)
    except ValidationError as error:
        await studio.hub.tell(page, Notice(kind="error", text=_first_fault(error.errors())))
        return
    except SelfsegError as error:
        await studio.hub.tell(page, Notice(kind="error", text=str(error)))
        return
    work = _done(studio, page, wish)
    if isinstance(wish, AT_ONCE):
        await work
    else:
        studio.spawn(work)


async def _done(studio: Studio, page: WebSocket, wish: object) -> None:
    try:
        await HANDLERS[type(wish)](studio, wish)
    except SelfsegError as error:
        await studio.hub.tell(page, Notice(kind="error", text=str(error)))
    except TimeoutError:
        await studio.hub.tell(page, Notice(kind="error", text="the run took too long to come to a checkpoint"))


def _first_fault(errors: Iterable[object]) -> str:
    first = next(iter(errors), {})
    where = ".".join(map(str, first.get("loc", ()))) if isinstance(first, dict) else ""
    text = first.get("msg", "not understood") if isinstance(first, dict) else "not understood"
    return f"message {where}: {text}"
