// SPDX-License-Identifier: MIT
// The other build of llama.cpp, as its users call it.
// usage: second.mjs MODULES MODEL PROMPT-TOKENS TOKENS
import {createRequire} from "module";
import path from "path";

const [modules, file, prompt, tokens] = process.argv.slice(2);
const {loadModel} = createRequire(path.join(modules, "index.js"))("@fugood/llama.node");
const model = await loadModel({
	model: file, n_ctx: 1024, n_gpu_layers: 99, lib_variant: "vulkan", devices: ["Vulkan0"],
});
const times = [];
let at = performance.now();
// The promise may be kept before the last calls back: the text is what it returns, not what those tell.
const {text} = await model.completion({
	prompt: "a".repeat(Number(prompt)), n_predict: Number(tokens), temperature: 0, ignore_eos: true, seed: 1,
}, () => {
	times.push(performance.now() - at);
	at = performance.now();
});
if (!text)
	throw new Error("no text");
console.log("tokens", JSON.stringify(text));
console.log("ms", times.map((ms) => ms.toFixed(3)).join(" "));
await model.release();
process.exit(0);
