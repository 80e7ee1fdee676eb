import { describe, expect, test } from "vitest";
import { type BenchOptions, parseFlags, testsOf, varyingFields } from "../bench/flags.ts";
import { UsageError } from "../bench/flagValues.ts";
import { expandTests, testName } from "../bench/tests.ts";

function options(line: string): BenchOptions {
  const parsed = parseFlags(line.split(" ").filter(Boolean));
  if ("help" in parsed) throw new Error("help was printed");
  return parsed.options;
}
const names = (line: string) => expandTests(options(line)).map(testName);

describe("defaults", () => {
  test("a prompt at depth 0, generation at three depths, five times", () => {
    expect(names("")).toEqual(["pp512", "tg128", "tg128 @ d1024", "tg128 @ d4096"]);
    expect(options("")).toMatchObject({
      models: [],
      archs: [],
      peers: ["longtape"],
      repetitions: 5,
      warmup: true,
      output: "md",
      outputErr: "none",
      progress: null,
      runtime: "chrome",
      streams: [1],
      ubatches: [512],
      tune: null,
      maxBytes: null,
      dtypes: ["f32"],
      cacheTypes: ["f32"],
    });
  });

  test("--quick", () => {
    expect(names("--quick")).toEqual(["pp64", "tg16", "tg16 @ d512"]);
    expect(options("--quick").repetitions).toBe(2);
  });

  test("--quick beside other runtimes: three rounds, and depth", () => {
    expect(names("--quick --peer all")).toEqual(["pp64", "tg32", "pp64 @ d1024", "tg32 @ d1024"]);
    expect(options("--quick --peer ort-wasm").repetitions).toBe(3);
    expect(names("--quick --peer longtape")).toEqual(names("--quick"));
  });

  test("longtape is run whatever it is compared with, each once", () => {
    expect(options("--peer all").peers).toEqual(["longtape", "ort-webgpu", "ort-wasm", "tfjs-webgpu"]);
    expect(options("--peer tfjs-webgpu,longtape --peer tfjs-webgpu").peers).toEqual([
      "longtape",
      "tfjs-webgpu",
    ]);
  });

  test("--fit alone gives no rows, beside what asks for some it does", () => {
    expect(options("").fit).toBeNull();
    expect(names("--fit")).toEqual([]);
    expect(options("--fit").fit).toEqual({ context: 1024, mostSeconds: 60 });
    expect(names("--fit -p 0 -n 4 -d 0,512")).toEqual(["tg4", "tg4 @ d512"]);
    expect(options("--fit -d 0,512").fit).toEqual({ context: 512, mostSeconds: 60 });
    expect(options("--fit -d 0 --fit-seconds 2.5").fit).toEqual({ context: 1024, mostSeconds: 2.5 });
    expect(options("--fit -d 128").fit!.context).toBe(128);
    expect(names("--fit --quick")).toEqual(["pp64", "tg16", "tg16 @ d512"]);
    expect(names("--fit -p 0 -n 0")).toEqual([]);
  });

  test("a flag replaces its own default only, before or after --quick", () => {
    expect(names("-n 4 --quick")).toEqual(["pp64", "tg4", "tg4 @ d512"]);
    expect(options("--quick -r 7").repetitions).toBe(7);
    expect(names("--quick -d 8")).toEqual(["pp64 @ d8", "tg16 @ d8"]);
  });
});

test("architectures are shipped ones, and hybrids by their layers as they are written shortest", () => {
  expect(options("-a jamba,hybrid:mamba*3+attn -a hybrid:attn+attn").archs).toEqual([
    "jamba",
    "hybrid:mamba*3+attn",
    "hybrid:attn*2",
  ]);
});

test("types are lists, and what is said of cached keys holds for values", () => {
  expect(options("--dtype f16,int8 --dtype f16")).toMatchObject({
    dtypes: ["f16", "int8"],
    cacheTypes: ["f32"],
  });
  expect(options("-ctv int8").cacheTypes).toEqual(["int8"]);
  expect(options("-ctk f32,f16 -ctv f32,f16").cacheTypes).toEqual(["f32", "f16"]);
});

describe("tests, in llama-bench's order", () => {
  test("depth outside, then prompts, generations, pairs", () => {
    expect(names("-p 1,2 -n 3 -pg 4,5 -d 0,6")).toEqual([
      "pp1",
      "pp2",
      "tg3",
      "pp4+tg5",
      "pp1 @ d6",
      "pp2 @ d6",
      "tg3 @ d6",
      "pp4+tg5 @ d6",
    ]);
  });

  test("0 leaves a kind out", () => {
    expect(names("-p 0 -n 8 -d 0")).toEqual(["tg8"]);
    expect(names("-p 8 -n 0 -d 0")).toEqual(["pp8"]);
    expect(names("-p 0 -n 0 -pg 8,9")).toEqual(["pp8+tg9"]);
    expect(() => options("-p 0 -n 0")).toThrow("-p, -n and -pg ask for no tokens, wanted at least one test");
  });

  test("streams and chunk sizes multiply", () => {
    const tests = expandTests(options("-p 8 -n 0 -d 0,1 -npl 1,2 -ub 4,8"));
    expect(tests).toHaveLength(8);
    expect(tests[1]).toEqual({ n_prompt: 8, n_gen: 0, n_depth: 1, n_parallel: 1, n_ubatch: 4 });
    expect(tests.map(({ n_parallel }) => n_parallel)).toEqual([1, 1, 2, 2, 1, 1, 2, 2]);
  });

  test("names", () => {
    expect(testName({ n_prompt: 512, n_gen: 0, n_depth: 0 })).toBe("pp512");
    expect(testName({ n_prompt: 512, n_gen: 128, n_depth: 4096 })).toBe("pp512+tg128 @ d4096");
  });
});

describe("modes", () => {
  const curve = (line: string) => testsOf(options(line));

  test("--curve: the stretches of one stream, to the largest depth", () => {
    expect(curve("--curve 64 -d 0,200").map(testName)).toEqual([
      "pp64",
      "pp64 @ d64",
      "pp64 @ d128",
      "pp8 @ d192",
    ]);
    expect(curve("--curve 1024").map(testName)).toEqual([0, 1, 2, 3].map(stretch));
    expect(curve("--curve 512 --quick -npl 1,2 -ub 1").map(({ n_parallel }) => n_parallel)).toEqual([1, 2]);
    expect(varyingFields(options("--curve 8 --quick"))).toEqual(["latency_p50_ns", "latency_p95_ns"]);

    function stretch(i: number): string {
      return i === 0 ? "pp1024" : `pp1024 @ d${1024 * i}`;
    }
  });

  test("--kernels: kernels by themselves, and no tests", () => {
    expect(options("--kernels")).toMatchObject({ kernels: [] });
    expect(options("--kernels --kernel linear,argmax --kernel rope")).toMatchObject({
      kernels: ["linear", "argmax", "rope"],
    });
    expect(names("--kernels --quick -a llama")).toEqual([]);
    expect(options("--quick").kernels).toBeNull();
  });

  test("--quality alone times nothing", () => {
    expect(options("--quality")).toMatchObject({ quality: true, curve: null, fill: "text" });
    expect(names("--quality")).toEqual([]);
    expect(names("--quality --quick")).toEqual(["pp64", "tg16", "tg16 @ d512"]);
    expect(names("--quality -n 8 -p 0 -d 0")).toEqual(["tg8"]);
    expect(names("--quality -p 0 -n 0")).toEqual([]);
    expect(curve("--quality --curve 2048")).toHaveLength(2);
    expect(varyingFields(options("--quality"))).toEqual(["bits_per_byte"]);
  });

  test("--fill", () => {
    expect(options("--fill random").fill).toBe("random");
    expect(varyingFields(options("--fill random"))).toEqual(["fill"]);
  });
});

describe("lists and ranges", () => {
  test.each([
    ["-d 1,2,3", [1, 2, 3]],
    ["-d 1 -d 2,3", [1, 2, 3]],
    ["-d 1-4", [1, 2, 3, 4]],
    ["-d 0-1024+512", [0, 512, 1024]],
    ["-d 1024-9000*2", [1024, 2048, 4096, 8192]],
    ["-d 0,16-64*2", [0, 16, 32, 64]],
    ["-d=5", [5]],
  ])("%s", (line, depths) => expect(options(line).genDepths).toEqual(depths));

  test.each([
    ["-d 4-1", "-d: range 4-1 ends before it starts, wanted first-last"],
    ["-d 0-8*2", "-d: range 0-8*2 never ends, wanted a first of at least 1 and a factor of at least 2"],
    ["-d 1-8*1", "-d: range 1-8*1 never ends, wanted a first of at least 1 and a factor of at least 2"],
    ["-d 1-8+0", '-d: found "0", wanted a whole number from 1 to 1073741824'],
    ["-d 0-1000000", "-d: found more than 1000 values, wanted at most 1000"],
    ["-d 1,,2", '-d: found "", wanted a whole number from 0'],
  ])("%s is refused", (line, message) => expect(() => options(line)).toThrow(message));
});

describe("spelling", () => {
  test("one dash or two before several letters, _ for - in long flags", () => {
    expect(options("--npl 2").streams).toEqual([2]);
    expect(options("-npl=2").streams).toEqual([2]);
    expect(options("--n-parallel 2").streams).toEqual([2]);
    expect(options("--n_prompt 7").prompts).toEqual([7]);
    expect(options("--max_bytes=2GiB").maxBytes).toBe(2 ** 31);
    expect(options("-oe csv").outputErr).toBe("csv");
    expect(options("--out my_folder").out).toBe("my_folder");
  });

  test("switches", () => {
    expect(options("--no-warmup --progress --software --open -v --list-devices")).toMatchObject({
      warmup: false,
      progress: true,
      software: true,
      open: true,
      verbose: true,
      listDevices: true,
    });
    expect(options("--no-progress").progress).toBe(false);
  });

  test("values", () => {
    expect(
      options(
        "-m a -m b,c -a llama,mamba --runtime node --browser x --seed 0 --tune off --delay 0.5 -o jsonl",
      ),
    ).toMatchObject({
      models: ["a", "b", "c"],
      archs: ["llama", "mamba"],
      runtime: "node",
      browser: "x",
      seed: 0,
      tune: "off",
      delaySeconds: 0.5,
      output: "jsonl",
    });
  });
});

describe("errors are one sentence and exit 2", () => {
  test.each([
    ["--promt 3", "unknown flag --promt, did you mean --n-prompt?"],
    ["-npx 3", "unknown flag -npx, did you mean -npl?"],
    ["--zzzzz", "unknown flag --zzzzz, --help lists all"],
    ["-p", "-p: found no value, wanted one"],
    ["--quick=yes", '--quick: found the value "yes", wanted none'],
    ["llama", 'argument "llama" follows no flag, wanted -m before a folder or -a before a name'],
    ["-p -n", '-p: found "-n", wanted a whole number'],
    ["-p 1.5", '-p: found "1.5", wanted a whole number'],
    ["-n -1", '-n: found "-1", wanted a whole number'],
    ["-r 0", '-r: found "0", wanted a whole number from 1'],
    ["-npl 0", '-npl: found "0", wanted a whole number from 1 to 4096'],
    ["-d 2000000000", '-d: found "2000000000", wanted a whole number from 0 to 1073741824'],
    [
      "-d 1073741824 -p 1 -n 0",
      "pp1 @ d1073741824: a context of 1073741825 tokens, wanted at most 1073741824",
    ],
    ["-p 1000000 -npl 1000", "pp1000000 in 1000 streams: prompts of 1000000000 ids, wanted at most 67108864"],
    ["-pg 5", '-pg: found "5", wanted prompt,generation as 512,128'],
    ["-ctk q8_0", '-ctk: found "q8_0", wanted one of f32, f16, int8'],
    ["-ctk f16 -ctv int8", "-ctv: found int8 beside -ctk f16, wanted the same"],
    ["--dtype q4", '--dtype: found "q4", wanted one of f32, f16, int8'],
    ["--peer tfjs", '--peer: found "tfjs", wanted one of longtape, ort-webgpu, ort-wasm, tfjs-webgpu, all'],
    ["--peer all --fit", "--peer sets tests beside one another, found --fit beside it"],
    ["--peer all --runtime node", "--peer: found --runtime node beside it, wanted chrome"],
    ["--peer all --dtype f16", "--peer: found f16 beside it, wanted f32"],
    ["-a rwkv", '-a: found "rwkv", wanted one of elman, gru'],
    ["-a hybrid:mamba*3+att", '-a: "hybrid:mamba*3+att": found "att", wanted layers such as mamba*3+attn'],
    ["-a hybrid:window", '-a: "hybrid:window": found "window", wanted the window\'s tokens, as window:256'],
    ["-o xml", '-o: found "xml", wanted one of md, csv, json, jsonl, sql, none'],
    ["--runtime deno", '--runtime: found "deno", wanted one of chrome, node'],
    ["--seed -3", '--seed: found "-3", wanted a whole number from 0 to 4294967295'],
    ["--max-bytes lots", '--max-bytes: found "lots", wanted a size'],
    ["--fill zeros", '--fill: found "zeros", wanted one of text, random'],
    ["--curve 0", '--curve: found "0", wanted a whole number from 1 to 1073741824'],
    ["--curve 5000", "--curve: found 5000 tokens a row, wanted at most the largest -d, 4096"],
    ["--curve 1 -d 8192", "--curve: a row every 1 of 8192 tokens makes 8192 rows, wanted at most 4096"],
    ["--curve 8 -p 8", "--curve streams a text once to the largest -d, found -p beside it"],
    ["--curve 8 -r 3", "--curve streams a text once to the largest -d, found -r beside it"],
    ["--curve 8 --fill random", "--curve streams a text, found --fill random beside it, wanted --fill text"],
    ["--kernels -p 8", "--kernels runs no tests, found -p beside it"],
    ["--kernels --fit", "--kernels runs no tests, found --fit beside it"],
    ["--kernel linear", "--kernel: found no --kernels beside it, wanted one"],
    ["--fit -d 64", "--fit: found -d 64, wanted at least 128 tokens a stream"],
    ["--fit-seconds 9", "--fit-seconds: found no --fit beside it, wanted one"],
    ["--fit --fit-seconds long", '--fit-seconds: found "long", wanted seconds from 0 to 3600'],
    ["--delay soon", '--delay: found "soon", wanted seconds from 0 to 3600'],
  ])("%s", (line, message) => {
    expect(() => options(line)).toThrow(message);
    try {
      options(line);
    } catch (error) {
      expect(error).toBeInstanceOf(UsageError);
      expect((error as UsageError).exitCode).toBe(2);
      expect((error as UsageError).message).not.toContain("\n");
    }
  });
});

test("help names every flag as its users write it, with examples", () => {
  const parsed = parseFlags(["-h"]);
  if (!("help" in parsed)) throw new Error("no help");
  const flags =
    "-m -p -n -pg -d -r -o -oe -ctk -ctv -ub --delay --progress --no-warmup --list-devices -npl -a --peer --runtime " +
    "--browser --software --quick --fit --fit-seconds --out --seed --tune --max-bytes --verbose --open --dtype --curve --quality --fill";
  for (const flag of flags.split(" ")) expect(parsed.help).toMatch(new RegExp(`(^|[ ,])${flag}[ ,]`, "m"));
  expect(parsed.help).toContain("Examples:");
  expect(parsed.help).not.toMatch(/--(npl|pg|ctk|oe|ub)\b/);
});

test("fields that differ between rows are named", () => {
  const ofStreams = ["n_parallel", "avg_ts_stream", "bytes_per_stream", "streams_per_gib"];
  expect(varyingFields(options("-npl 1,2"))).toEqual(ofStreams);
  expect(varyingFields(options("-npl 4 -ub 8,16"))).toEqual([...ofStreams, "n_ubatch"]);
  expect(varyingFields(options(""))).toEqual([]);
});
