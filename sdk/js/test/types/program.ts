// The program of the standard, as it stands there.
import certes from "@certes/sdk";
import {github as gh} from "@certes/contrib";
import express from "express";
certes.init("events://events.meetly.com");
certes.ensureSubscriptions([
certes.event("community.certes.dev/github/1/push"),
certes.event("community.certes.dev/github/1/issues", {
repo: "meetly/app",
}),
certes.event("community.certes.dev/github/1/membership", {
org: "meetly",
}),
]);
certes.on("community.certes.dev/github/1/push", (raw) => {
const event = raw as gh.PushEvent; // in typescript, omit for regular JS
console.log(`Got GitHub push event: ${event}`);
});
const app = express();
const port = 8080;
app.post("/", certes.expressHandler());
app.listen(port, () => console.log(`Listening at http://localhost:${port}`));
