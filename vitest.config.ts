import { playwright } from "@vitest/browser-playwright";
import { defineConfig } from "vitest/config";
import { launchBrowser } from "./bench/browser.ts";

const gpuTests = "test/**/*.gpu.test.ts";

/** Compiling a page of shaders on two cores takes SwiftShader longer than Vitest's own limits. */
const timeouts = { testTimeout: 60_000, hookTimeout: 60_000 };

/** Asks the browser for its adapter first: without one the run ends here, with the cure, before any test. */
async function browserProject() {
  const { browser, launchOptions } = await launchBrowser();
  await browser.close();
  return {
    // The tests fetch goldens and checkpoints as /test/goldens/... and /models/checkpoints/...
    publicDir: false as const,
    // found in mid-run these would reload the page under the tests
    optimizeDeps: {
      include: [
        ...["@huggingface/tokenizers", "idb-keyval", "valibot", "webgpu-memory", "protobufjs/light.js"],
        ...["@tensorflow/tfjs", "@tensorflow/tfjs-backend-webgpu"],
      ],
      exclude: ["onnxruntime-web"],
    },
    test: {
      name: "browser",
      include: [gpuTests],
      ...timeouts,
      // One GPU: files side by side would only share it, and its memory.
      fileParallelism: false,
      browser: {
        enabled: true,
        headless: true,
        provider: playwright({ launchOptions }),
        instances: [{ browser: "chromium" as const }],
        screenshotFailures: false,
      },
    },
  };
}

export default defineConfig({
  test: {
    projects: [
      {
        test: {
          name: "node",
          include: ["test/**/*.test.ts"],
          exclude: [gpuTests],
          globalSetup: "test/tools/verdicts.ts",
          ...timeouts,
        },
      },
      browserProject,
    ],
  },
});
