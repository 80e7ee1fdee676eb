// PyTorch's recurrent networks: nn.RNN with tanh (Elman 1990), nn.GRU and nn.LSTM between an Embedding and a Linear.
//   x = embedding[token]     h_l = cell(x, h_l), x = h_l for each layer l     logits = head x + bias
//
//   B streams   T tokens in the chunk   V vocabulary   E embedding width   H hidden units of a layer
//   I a layer's inputs: E in the first, H above   K columns of a cell's matrix: x's I in whole tiles, then h's H

import { type Carried, defineArchitecture, state, type Twin, twin, weight } from "../engine/model.ts";
import type { Recorder } from "../engine/plan.ts";
import { rows, type Tensor, tiles } from "../engine/tensor.ts";
import { elmanCell } from "../kernels/elmanCell.ts";
import { embedding } from "../kernels/embedding.ts";
import { gruCell } from "../kernels/gruCell.ts";
import { lstmCell } from "../kernels/lstmCell.ts";
import { type CellLetter, cellColumns } from "../kernels/recurrentCell.ts";
import { autoregressive, plain, readout } from "./common.ts";
import { type RnnConfig, rnnConfig } from "./configs.ts";
import type { Family } from "./family.ts";

/** What every cell binds; `c` is the LSTM's alone. */
type CellTensors = Record<"cursor" | "x" | "w" | "bias" | "h" | "hNext" | "y", Tensor> & { c?: Tensor };

interface Cell {
  name: string;
  gates: number;
  /** The product of n with h has a bias of its own: a fourth row. */
  biasRows: number;
  run(m: Recorder, t: CellTensors, s: Record<CellLetter, number>): void;
}

const elman = recurrent({
  name: "elman",
  gates: 1,
  biasRows: 1,
  run: (m, t, s) => m.run(elmanCell, t, s),
});
const gru = recurrent({ name: "gru", gates: 3, biasRows: 4, run: (m, t, s) => m.run(gruCell, t, s) });
const lstm = recurrent({
  name: "lstm",
  gates: 4,
  biasRows: 4,
  run: (m, { c, ...t }, s) => m.run(lstmCell, { ...t, c: c! }, s),
});

function recurrent(cell: Cell) {
  return defineArchitecture({
    name: cell.name,
    vocabulary: (c: RnnConfig) => c.vocab,
    width: (c) => c.hidden,

    weights(c) {
      const [V, E, H] = [c.vocab, c.embedding, c.hidden];
      return {
        embedding: weight(tiles(V, E), plain("embedding.weight", V, E)),
        layers: Array.from({ length: c.layers }, (_, l) => layer(cell, l, l === 0 ? E : H, H)),
        head: weight(tiles(V, H), plain("head.weight", V, H)),
        headBias: weight(rows(V), plain("head.bias", V)),
      };
    },

    state({ cell: kind, hidden: H, layers }, B) {
      return {
        layers: Array.from({ length: layers }, (): { h: Twin; c?: Carried } => ({
          h: twin(rows(B, H)),
          ...(kind === "lstm" ? { c: state(rows(B, H)) } : {}),
        })),
      };
    },

    scratch({ embedding: E, hidden: H, layers }, { B, T }) {
      return {
        x: rows(B, T, E),
        // layers write them in turn: one reads what the one below wrote
        y: Array.from({ length: Math.min(layers, 2) }, () => rows(B, T, H)),
      };
    },

    forward(m, c, { w, s, x }, io, { B, T }) {
      const [V, E, H] = [c.vocab, c.embedding, c.hidden];
      m.run(embedding, { table: w.embedding, tokens: io.tokens, y: x.x }, { V, D: E, M: B * T });
      let hidden = x.x;
      w.layers.forEach((l, i) => {
        const { h, c: memory } = s.layers[i]!;
        const y = x.y[i % 2]!;
        const I = i === 0 ? E : H;
        cell.run(
          m,
          {
            ...l,
            cursor: io.cursor,
            x: hidden,
            h: h.now,
            hNext: h.next,
            y,
            ...(memory ? { c: memory } : {}),
          },
          { B, T, I, H, K: cellColumns(I, H) },
        );
        hidden = y;
      });
      readout(m, io, { hidden, head: w.head, headBias: w.headBias, V, D: H }, { B, T });
    },

    ...autoregressive,
  });
}

function layer({ gates: G, biasRows }: Cell, l: number, I: number, H: number) {
  const K = cellColumns(I, H);
  return {
    w: weight(tiles(G, H, K), async (read) => {
      const matrix = new Float32Array(G * H * K);
      place(matrix, K, 0, await read(`rnn.weight_ih_l${l}`, [G * H, I]), I);
      place(matrix, K, K - H, await read(`rnn.weight_hh_l${l}`, [G * H, H]), H);
      return matrix;
    }),
    bias: weight(rows(biasRows, H), async (read) => {
      const ih = await read(`rnn.bias_ih_l${l}`, [G * H]);
      const hh = await read(`rnn.bias_hh_l${l}`, [G * H]);
      // a row more than gates: the last gate's two stay apart
      const shared = biasRows === G ? G * H : (G - 1) * H;
      const bias = new Float32Array(biasRows * H);
      for (let i = 0; i < shared; i++) bias[i] = ih[i]! + hh[i]!;
      bias.set(ih.subarray(shared), shared);
      bias.set(hh.subarray(shared), G * H);
      return bias;
    }),
  };
}

/** Copies a matrix into columns `at`.. of one with K columns. */
function place(into: Float32Array, K: number, at: number, matrix: Float32Array, columns: number): void {
  for (let row = 0; row * K < into.length; row++) {
    into.set(matrix.subarray(row * columns, (row + 1) * columns), row * K + at);
  }
}

const architectures = { rnn: elman, gru, lstm };

export const rnnFamily: Family = {
  modelTypes: ["rnn", "gru", "lstm"],
  open: (source) => {
    const config = rnnConfig(source);
    return { architecture: architectures[config.cell], config };
  },
};
