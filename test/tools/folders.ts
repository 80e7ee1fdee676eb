// The checkpoints that are beside the tests: a golden that is put there is tested by being there.

/// <reference types="vite/types/importMeta.d.ts" />

const name = (path: string) => path.split("/").at(-2)!;

/** Folders of test/goldens: small, with random weights. */
export const goldens = Object.keys(import.meta.glob("../goldens/*/config.json")).map(name);

/** Folders of models/checkpoints: trained, and shipped. */
export const checkpoints = Object.keys(import.meta.glob("../../models/checkpoints/*/config.json")).map(name);
