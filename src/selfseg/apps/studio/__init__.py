"""The studio: look, slide, merge, name and export in the browser, on your own machine.

A small server (`server`) shows a project folder (`project`): its pictures as tiles (`tiles`), its runs (`runs`), and what was
done to their classes by hand (`events`). Whatever needs torch happens in processes of its own, which write into the project
folder: `worker` learns and segments, one process a run; `engine` segments further images and describes the methods. So a
crash of one takes nothing else with it, and a killed server loses nothing. Messages over the websocket: `messages`.
"""
