"""The process that answers the studio's server: killed, as by a system without memory, it costs one line and starts again."""

import asyncio

import pytest

from selfseg.apps.studio.engine import Engine
from selfseg.core.errors import InputError


def test_a_killed_engine_is_one_line_and_the_next_question_is_answered(photos, tmp_path):
    async def ask():
        engine = Engine(tmp_path / "engine.txt")
        try:
            question = asyncio.create_task(engine.ask("list", path=str(photos)))
            while engine._process is None:
                await asyncio.sleep(0.01)
            engine._process.kill()
            with pytest.raises(InputError, match="the process that segments ended; it starts again"):
                await question
            return await engine.ask("list", path=str(photos))
        finally:
            await engine.close()

    assert [name for name, _ in asyncio.run(ask())] == ["photo0", "photo1"]
