// Classifies texts with transformers.js, and runs a graph in onnxruntime-web: node classify.mjs NODE_FOLDER < job.json
// The job: {models, dtypes, texts, ids, graph}; prints {MODEL: {DTYPE: [[{label, score}]]}, web: [logits]}.
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";
import { basename, dirname, join } from "node:path";

const require = createRequire(join(process.argv[2], "package.json"));
const { pipeline, env } = require("@huggingface/transformers");
const job = JSON.parse(readFileSync(0, "utf-8"));
env.allowRemoteModels = false;
const found = {};
for (const folder of job.models) {
  env.localModelPath = dirname(folder);
  found[folder] = {};
  for (const dtype of job.dtypes) {
    const options = { dtype, local_files_only: true };
    const classify = await pipeline("text-classification", basename(folder), options);
    found[folder][dtype] = [];
    for (const text of job.texts) found[folder][dtype].push(await classify(text, { top_k: null }));
  }
}
const ort = require("onnxruntime-web");
ort.env.wasm.numThreads = 1;
const session = await ort.InferenceSession.create(readFileSync(job.graph), { executionProviders: ["wasm"] });
found.web = [];
for (const ids of job.ids) {
  const tensor = (values) => new ort.Tensor("int64", BigInt64Array.from(values.map(BigInt)), [1, values.length]);
  const outputs = await session.run({ input_ids: tensor(ids), attention_mask: tensor(ids.map(() => 1)) });
  found.web.push(Array.from(outputs.logits.data));
}
console.log(JSON.stringify(found));
