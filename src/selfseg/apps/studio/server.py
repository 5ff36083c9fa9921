"""The server: page, tiles, tables, uploads, downloads and the websocket. It never imports torch."""

import asyncio
import contextlib
import json
import mimetypes
from collections.abc import AsyncIterator
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from fastapi import Depends, FastAPI, Query, WebSocket, WebSocketDisconnect
from fastapi import Request as HttpRequest
from fastapi.responses import FileResponse, JSONResponse, Response
from pydantic import ValidationError

from selfseg.apps.studio import pictures
from selfseg.apps.studio.browsing import list_place
from selfseg.apps.studio.commands import AT_ONCE, HANDLERS
from selfseg.apps.studio.editing import EDITS, edits_of, write_edits
from selfseg.apps.studio.exports import as_command, as_python, zip_folder
from selfseg.apps.studio.messages import REQUESTS, Notice, Request, Stored, schema
from selfseg.apps.studio.objects import corrected_areas, corrected_pixels, counting_of, labels_of, stored_numbers
from selfseg.apps.studio.project import EXPORTS, TAG
from selfseg.apps.studio.results import StoredResult, need_result
from selfseg.apps.studio.runs import PREVIEWS, Spec
from selfseg.apps.studio.security import Access, Guard, confine
from selfseg.apps.studio.studio import ANSWERS, KEPT_ANSWERS, Studio
from selfseg.core.errors import InputError, SelfsegError
from selfseg.read import Source

STATIC = Path(str(files("selfseg.apps.studio"))) / "static"

MOST_UPLOAD = 2 * 2**30
"""Bytes of one uploaded file at most."""

MOST_MESSAGE = 2**21
"""Bytes of one message over the websocket at most."""

RAW = "application/octet-stream"

Name = Annotated[str, Query(max_length=1000)]
Position = Annotated[pictures.TilePosition, Depends()]


class PlainJSON(JSONResponse):
    """JSON in ASCII: the names of files need not be text, and have an escape there."""

    def render(self, content: Any) -> bytes:
        """Return the content as bytes."""
        return json.dumps(content, separators=(",", ":")).encode()


def make_app(studio: Studio, access: Access) -> FastAPI:
    """Return the application of a studio."""

    @contextlib.asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        studio.spawn(studio.watch())
        studio.spawn(studio.describe_methods())
        yield
        await studio.close()

    app = FastAPI(lifespan=life, docs_url=None, redoc_url=None, openapi_url=None)

    async def refused(_: HttpRequest, error: Exception) -> Response:
        return PlainJSON({"error": studio.words_of(error)}, 400)

    app.add_exception_handler(SelfsegError, refused)
    app.add_middleware(Guard, access=access)
    _add_page(app)
    _add_pictures(app, studio)
    _add_results(app, studio)
    _add_objects(app, studio)
    _add_files(app, studio)
    _add_socket(app, studio)
    return app


def _add_page(app: FastAPI) -> None:
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
        return PlainJSON(schema())


def _add_pictures(app: FastAPI, studio: Studio) -> None:
    @app.get("/api/picture")
    def picture(name: Name) -> Response:
        return PlainJSON(studio.pictures.get(name).facts())

    @app.get("/api/thumbnail")
    def thumbnail(name: Name) -> Response:
        return Response(pictures.thumbnail_png(studio.pictures.get(name)), media_type="image/png")

    @app.get("/tiles/image")
    def image_tile(name: Name, channels: str, position: Position) -> Response:
        return Response(pictures.image_tile(studio.pictures.get(name), position, _numbers(channels)), media_type=RAW)

    @app.get("/api/volume.nii")
    def volume(name: Name, frame: int = 0) -> Response:
        picture = studio.pictures.get(name)
        if not 0 <= frame < len(picture.data):
            raise InputError(f"frame {frame}", expected="one of the picture", got="none", fix="choose another")
        grey = picture.data[frame].mean(-1).astype(picture.data.dtype)
        return Response(pictures.as_nifti(grey, picture.image.spacing), media_type=RAW)


def _numbers(text: str) -> list[int]:
    return [int(word) for word in text.split(",") if word.isdigit()]


def _add_results(app: FastAPI, studio: Studio) -> None:
    def need(run: str, name: Name, frame: int = 0) -> StoredResult:
        return need_result(studio.runs.get(run).folder, name, frame)

    Stored = Annotated[StoredResult, Depends(need)]

    @app.get("/tiles/leaves")
    def leaf_tile(stored: Stored, position: Position) -> Response:
        studio.shown.set()
        return Response(pictures.leaf_tile(stored, position), media_type=RAW)

    @app.get("/tiles/probability")
    def probability_tile(stored: Stored, position: Position, sources: str = "") -> Response:
        return Response(pictures.probability_tile(stored, position, _numbers(sources)), media_type=RAW)

    @app.get("/api/tree")
    def tree(stored: Stored) -> Response:
        """Answer with float64 altitudes [2R-1] and sizes [2R-1], then int32 parents [2R-1]."""
        kinds = {"altitudes": "<f8", "sizes": "<f8", "parents": "<i4"}
        raw = (np.ascontiguousarray(stored.array(name), kind).tobytes() for name, kind in kinds.items())
        return Response(b"".join(raw), media_type=RAW)

    @app.get("/api/classes")
    def classes(run: str, stored: Stored) -> Response:
        """Answer with the class of each leaf after merges and splits, uint16 [R]."""
        edits = edits_of(studio.project, studio.runs.get(run))
        return Response(edits.classes(stored).astype("<u2").tobytes(), media_type=RAW)

    @app.get("/api/labels.nii")
    def label_volume(run: str, name: Name, stored: Stored, frame: int = 0) -> Response:
        labels = labels_of(edits_of(studio.project, studio.runs.get(run)), stored, name, frame)
        return Response(pictures.as_nifti(labels, studio.pictures.get(name).image.spacing), media_type=RAW)

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
        asked = Spec.read(found.folder), found.model, edits_of(studio.project, found)
        asked_file = (*asked, found.folder / EDITS)
        return PlainJSON({"python": as_python(*asked_file), "command": as_command(*asked_file)})


def _add_objects(app: FastAPI, studio: Studio) -> None:
    @app.get("/tiles/objects")
    def object_tile(run: str, name: Name, position: Position) -> Response:
        numbers = stored_numbers(studio.runs.get(run).folder, name, position.frame)
        if numbers is None:
            raise InputError(f"objects of {name!r}", expected="counted ones", got="none", fix="count objects first")
        return Response(pictures.number_tile(numbers, position), media_type=RAW)

    @app.get("/tiles/corrections")
    def correction_tile(run: str, name: Name, position: Position) -> Response:
        fixed = corrected_pixels(studio.project, studio.runs.get(run), name, position.frame)
        return Response(pictures.number_tile(fixed, position), media_type=RAW)

    @app.get("/api/corrections")
    def corrections(run: str, name: Name, frame: int = 0) -> Response:
        return PlainJSON(corrected_areas(studio.project, studio.runs.get(run), name, frame))

    @app.get("/api/objects")
    async def objects(run: str, name: Name, frame: int = 0) -> Response:
        """Count the objects of a frame, and answer with their measures, column by column."""
        need_result(studio.runs.get(run).folder, name, frame)
        found, source = studio.runs.get(run), studio.project.source(name)
        edits = await asyncio.to_thread(counting_of, studio.project, found)
        asked = {"run": str(found.folder), "name": name, "path": str(source.path), "axes": studio.project.axes}
        return PlainJSON(await studio.engine.ask("count", **asked, frame=frame, edits=edits))

    @app.get("/api/answer")
    def answer(stamp: int) -> Response:
        return FileResponse(studio.project.folder / ANSWERS / f"{stamp % KEPT_ANSWERS}.bin", media_type=RAW)


def _add_files(app: FastAPI, studio: Studio) -> None:
    @app.post("/api/upload")
    async def upload(request: HttpRequest, name: Name) -> Response:
        path = studio.project.upload_path(name)
        if int(request.headers.get("content-length", MOST_UPLOAD + 1)) > MOST_UPLOAD:
            return PlainJSON({"error": f"{name}: expected at most {MOST_UPLOAD >> 20} MB"}, 413)
        await _receive(request, path)
        try:
            await asyncio.to_thread(pictures.open_picture, Source(path.stem, path), None)
        except SelfsegError:
            path.unlink(missing_ok=True)
            raise
        studio.project.refresh()
        await studio.show_new_pictures()
        return PlainJSON({"name": path.name})

    @app.get("/api/folder")
    def folder(place: Annotated[str, Query(max_length=4000)] = "") -> Response:
        return PlainJSON(list_place(studio.project, place))

    @app.get("/api/export.csv")
    def export_csv(folder: str) -> Response:
        found = confine(studio.project.folder / EXPORTS / folder / "instances.csv", [studio.project.folder / EXPORTS])
        if not found.is_file():
            raise InputError(folder, expected="an export with objects", got="none", fix="export objects again")
        return FileResponse(found, media_type="text/csv", filename=f"{folder}.csv")

    @app.get("/api/export.zip")
    async def export_zip(folder: str) -> Response:
        home = studio.project.folder / EXPORTS
        found = confine(home / folder, [home])
        if found == home.resolve() or not found.is_dir():
            raise InputError(folder, expected="an export of this project", got="none", fix="export again")
        path = home / f"{found.name}.zip"
        await asyncio.to_thread(zip_folder, found, path)
        return FileResponse(path, media_type="application/zip", filename=path.name)


async def _receive(request: HttpRequest, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    count, part = 0, path.with_name(f".{path.name}.part")
    try:
        with part.open("wb") as file:
            async for chunk in request.stream():
                count += len(chunk)
                if count > MOST_UPLOAD:
                    raise InputError(
                        path.name,
                        expected=f"at most {MOST_UPLOAD >> 20} MB",
                        got="more",
                        fix="shrink the picture, or start the studio with its path",
                    )
                file.write(chunk)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _add_socket(app: FastAPI, studio: Studio) -> None:
    @app.websocket("/ws")
    async def socket(page: WebSocket) -> None:
        await page.accept()
        await studio.greet(page)
        try:
            while True:
                await _receive_message(studio, page, await page.receive_text())
        except WebSocketDisconnect:
            studio.hub.drop(page)


async def _receive_message(studio: Studio, page: WebSocket, text: str) -> None:
    """Do what one message asks, at once or in the background; an error goes to the page that asked."""
    try:
        if len(text) > MOST_MESSAGE:
            raise InputError("message", expected="at most 2 MB", got="more", fix="draw shorter strokes")
        request = REQUESTS.validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        await studio.hub.send(page, Notice(kind="error", text=f"message {where}: {first['msg']}"))
    except SelfsegError as error:
        await studio.hub.send(page, Notice(kind="error", text=studio.words_of(error)))
    else:
        work = _handle(studio, page, request)
        if isinstance(request, AT_ONCE):
            await work
        else:
            studio.spawn(work)


async def _handle(studio: Studio, page: WebSocket, request: Request) -> None:
    """Do a message once, however often it comes, and say that it is done."""
    tag = request.tag
    TAG.set(tag)
    try:
        if tag is None or not studio.project.log.knows(tag):
            await HANDLERS[type(request)](studio, request)
    except SelfsegError as error:
        await studio.hub.send(page, Notice(kind="error", text=studio.words_of(error)))
    finally:
        TAG.set(None)
    if tag is not None:
        await studio.hub.send(page, Stored(tag=tag))
