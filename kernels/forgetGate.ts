// The decay of gated linear attention (Yang et al. 2023, arXiv 2312.06635, section 4.4), from a low-rank projection:
//   decay = exp(logsigmoid(Wg r + bias) / tau) = sigmoid(Wg r + bias)^(1 / tau)

import { defineKernel, read, tiled, write } from "../engine/kernel.ts";
import { ceilDiv } from "../engine/tensor.ts";
import { softplus } from "./reference/math.ts";

//   M rows (streams x tokens)   H key/value heads   D width of a key   R rank   tau temperature
//   W columns of `low`, of which R from column C on hold r
export const forgetGate = defineKernel({
  name: "forgetGate",
  consts: ["M", "H", "D", "R", "W", "C"],
  scalars: ["tau"],
  bindings: {
    low: read("f32", "M", "W"),
    w: tiled(read("f32", "H", "D", "R")),
    bias: read("f32", "H", "D"),
    decay: write("f32", "M", "H", "D"),
  },
  variants: {
    // A thread owns four channels of a head for a few rows, so that a tile of weights is read once for all of them.
    tiles: {
      suits: "any",
      views: { bias: "vec4f", decay: "vec4f" },
      passes: [
        {
          workgroup: 16,
          grid: ({ M, H, D }) => ceilDiv(ceilDiv(M, ROWS) * H * ceilDiv(D, 4), 16),
          wgsl: ({ M, R }) => {
            const rows = Array.from({ length: Math.min(M, ROWS) }, (_, i) => i);
            const x = (m: number, r: number) => {
              const value = `low[min(m + ${m}u, M - 1u) * (W4 * 4u) + C + 4u * r4 + ${r}u]`;
              return R % 4 === 0 ? value : `select(0.0, ${value}, 4u * r4 + ${r}u < R)`;
            };
            return `
@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = workgroupIndex(wg) * WG + lane;
  let h = i / D4 % H;
  let m = i / D4 / H * ${rows.length}u;
  if (m >= M) { return; }
  let channels = h * D4 + i % D4;
  ${rows.map((r) => `var z${r} = bias[channels];`).join(" ")}
  for (var r4 = 0u; r4 < R4; r4++) {
    let t = wTile(channels, r4);
    ${rows.map((r) => `z${r} += t * vec4f(${[0, 1, 2, 3].map((l) => x(r, l))});`).join("\n    ")}
  }
  ${rows.map((r) => `if (m + ${r}u < M) { decay[(m + ${r}u) * H * D4 + channels] = keep(z${r}); }`).join("\n  ")}
}
fn keep(z: vec4f) -> vec4f { return exp((min(z, vec4f()) - log(1.0 + exp(-abs(z)))) / tau); }`;
          },
        },
      ],
    },
  },

  reference(t, { M, H, D, R, W, C, tau }) {
    for (let m = 0; m < M; m++)
      for (let channel = 0; channel < H * D; channel++) {
        let z = t.bias[channel]!;
        for (let r = 0; r < R; r++) z += t.w[channel * R + r]! * t.low[m * W + C + r]!;
        t.decay[m * H * D + channel] = Math.exp(-softplus(-z) / tau);
      }
  },

  flops: ({ M, H, D, R }) => M * H * D * (2 * R + 6),
  bytes: ({ M, H, D, R }, each) => 4 * (M * R + H * D + M * H * D) + each("w") * H * D * R,
  cases: [
    { M: 5, H: 3, D: 5, R: 3, W: 11, C: 6, tau: 2 },
    { M: 1, H: 4, D: 16, R: 16, W: 400, C: 256, tau: 16 },
    { M: 35, H: 4, D: 16, R: 16, W: 400, C: 256, tau: 16 },
  ],
});

/** Rows that a thread takes at a time. */
const ROWS = 4;
