// SPDX-License-Identifier: MIT
// node-llama-cpp as its users call it, on the CPU: a prompt, then tokens.
// usage: chat.mjs MODULES MODEL PROMPT-TOKENS TOKENS [CONVERSATIONS]
import {pathToFileURL} from "url";
import path from "path";

const [modules, file, prompt_tokens, wanted, conversations] = process.argv.slice(2);
const {getLlama, LlamaLogLevel} = await import(pathToFileURL(path.join(modules, "node-llama-cpp/dist/index.js")));
const llama = await getLlama({
	gpu: process.env.TEST_GPU || false, build: "never", logLevel: LlamaLogLevel.error, skipDownload: true,
});
if (llama.gpu !== (process.env.TEST_GPU || false))
	throw new Error("not where it was asked to be: " + llama.gpu);
const model = await llama.loadModel({modelPath: file, gpuLayers: process.env.TEST_GPU ? "max" : 0});
const context = await model.createContext({contextSize: 1024, batchSize: 512, threads: 1});
const sequence = context.getSequence();
const prompt = Array.from({length: Number(prompt_tokens)}, (_, k) => 3 + ((k * 7) % 256));
const tokens = [];
for (let i = 0; i < Number(conversations || 1); i++) {
	await sequence.clearHistory();
	for await (const token of sequence.evaluate(prompt, {temperature: 0, yieldEogToken: true})) {
		tokens.push(token);
		if (tokens.length >= (i + 1) * Number(wanted))
			break;
	}
}
console.log("tokens", tokens.join(" "));
await context.dispose();
await model.dispose();
await llama.dispose();
process.exit(0);
