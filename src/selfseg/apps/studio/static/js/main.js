// Everything is put together here: parts of the page, then keys, then the link to the server.

import "./panels/notices.js";
import "./panels/help.js";
import "./panels/images.js";
import "./panels/layers.js";
import "./panels/planes.js";
import "./panels/status.js";
import "./panels/selection.js";
import "./panels/look.js";
import "./panels/level.js";
import "./panels/classes.js";
import "./panels/objects.js";
import "./panels/start.js";
import "./panels/runs.js";
import "./panels/export.js";
import "./view/panes.js";
import { listenToKeys } from "./keyboard.js";
import { listenToHeader } from "./panels/header.js";
import { answerTimes } from "./answers.js";
import { connect } from "./socket.js";
import { state } from "./store.js";
import { scene } from "./scene.js";

listenToHeader();
listenToKeys();
connect();

// For tests and for the curious: the state of the page. Nothing here reads it.
window.studio = { state, scene, answerTimes };
