"""The studio: view, merge, name, learn and export in the browser, on the user's own machine.

A small server (`server`) shows a project folder (`project`): its pictures (`pictures`), its runs (`runs`) with their results
(`results`), the edits of their classes and the strokes on its pictures (`editing`). Two kinds of processes need torch, and
write into the project folder: `worker` learns and segments, one process a run; `engine_process` segments further images and
describes the methods. If one of them dies, the others are not affected, and a killed server loses nothing. Websocket
messages: `messages`; what the server does for each: `commands`.
"""
