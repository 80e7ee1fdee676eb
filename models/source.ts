// Where a checkpoint's files come from. Everything above this file reads ranges of named files and knows no
// network, disk or picker; Node's directories are in directory.ts, so that a browser bundle never meets node:fs.

/** A file that is missing, cannot be reached, is cut short, or does not hold what its format says. */
export class CheckpointError extends Error {
  override name = "CheckpointError";
}

export interface Source {
  /** What messages call it: a folder's name or a URL. */
  readonly name: string;
  /** Bytes [begin, end) of a file, the whole file by default. Fewer bytes than asked for is an error. */
  read(path: string, begin?: number, end?: number): Promise<Uint8Array<ArrayBuffer>>;
  /** Bytes in a file, or null where there is no such file. */
  size(path: string): Promise<number | null>;
}

/** Throws unless all the bytes asked for came back: a source that is cut short must never look like zeros. */
export function expectBytes(path: string, begin: number, wanted: number, found: number): void {
  if (found !== wanted)
    throw new CheckpointError(`${path}: found ${found} bytes from byte ${begin} on, wanted ${wanted}`);
}

export const missingFile = (source: string, path: string): CheckpointError =>
  new CheckpointError(`${source} holds no ${path}`);

/**
 * Files of a picker (`<input webkitdirectory>`) or of a dropped folder; the folder's own name is left out of paths. Messages call
 * it by that name, or by the one given.
 */
export function filesSource(files: Iterable<File>, givenName?: string): Source {
  const byPath = new Map<string, File>();
  let name = givenName ?? "the chosen files";
  for (const file of files) {
    const slash = file.webkitRelativePath?.indexOf("/") ?? -1;
    if (slash > 0) name = givenName ?? file.webkitRelativePath.slice(0, slash);
    const path = slash > 0 ? file.webkitRelativePath.slice(slash + 1) : file.name;
    if (byPath.has(path)) throw new CheckpointError(`${path} was given twice, wanted one folder's files`);
    byPath.set(path, file);
  }
  return {
    name,
    async read(path, begin = 0, end) {
      const file = byPath.get(path);
      if (!file) throw missingFile(name, path);
      const stop = end ?? file.size;
      let bytes: Uint8Array<ArrayBuffer>;
      try {
        bytes = new Uint8Array(await file.slice(begin, stop).arrayBuffer());
      } catch (cause) {
        throw new CheckpointError(`${path}: the browser could not read it (${reason(cause)})`, { cause });
      }
      expectBytes(path, begin, stop - begin, bytes.length);
      return bytes;
    },
    size: async (path) => byPath.get(path)?.size ?? null,
  };
}

/**
 * A folder behind HTTP, read by Range requests. Relative addresses are resolved against the page's. Messages call it by
 * its address, or by the name given.
 */
export function urlSource(url: string | URL, givenName?: string): Source {
  let base: URL;
  try {
    base = new URL(url, globalThis.location?.href);
  } catch (cause) {
    throw new CheckpointError(`${url} is not a URL, wanted one such as https://host/folder`, { cause });
  }
  const name = givenName ?? base.href;
  // A server that ignores Range sends whole files. They are kept as Blobs, which browsers may hold on disk.
  const whole = new Map<string, Blob>();

  const address = (path: string): URL => {
    const file = new URL(base);
    const escaped = path.split("/").map(encodeURIComponent).join("/");
    file.pathname = `${base.pathname.replace(/\/+$/, "")}/${escaped}`;
    file.hash = "";
    return file;
  };

  /** null: no such file. */
  async function request(path: string, init: RequestInit): Promise<Response | null> {
    let response: Response;
    try {
      response = await fetch(address(path), init);
    } catch (cause) {
      throw new CheckpointError(`${address(path).href} could not be reached (${reason(cause)})`, { cause });
    }
    if (response.status === 404 || response.status === 410) return null;
    // Servers of single-page apps answer a missing file with their page; no file of a checkpoint is HTML.
    if (response.ok && response.headers.get("content-type")?.startsWith("text/html")) return null;
    if (response.ok || response.status === 416) return response;
    throw new CheckpointError(
      `${address(path).href} answered ${response.status} ${response.statusText}`.trimEnd(),
    );
  }

  async function body(path: string, response: Response): Promise<Blob> {
    try {
      return await response.blob();
    } catch (cause) {
      throw new CheckpointError(`${address(path).href} broke off (${reason(cause)})`, { cause });
    }
  }

  /** The answer to a range: the bytes asked for, or the whole file where the server ignores Range. */
  async function range(path: string, begin: number, end: number): Promise<Blob> {
    const kept = whole.get(path);
    if (kept) return kept.slice(begin, end);
    const response = await request(path, { headers: { Range: `bytes=${begin}-${end - 1}` } });
    if (!response) throw missingFile(name, path);
    if (response.status === 416) return new Blob([]);
    const blob = await body(path, response);
    if (response.status === 206) {
      const from = /^bytes (\d+)-/.exec(response.headers.get("content-range") ?? "")?.[1];
      if (from !== undefined && Number(from) !== begin)
        throw new CheckpointError(`${address(path).href} sent bytes from ${from} on, wanted ${begin}`);
      return blob;
    }
    whole.set(path, blob);
    return blob.slice(begin, end);
  }

  return {
    name,
    async read(path, begin = 0, end) {
      let blob = whole.get(path)?.slice(begin, end);
      if (!blob && begin === 0 && end === undefined) {
        const response = await request(path, {});
        if (!response) throw missingFile(name, path);
        blob = await body(path, response);
      }
      const stop = end ?? (blob ? begin + blob.size : ((await this.size(path)) ?? begin));
      if (stop <= begin) return new Uint8Array(0);
      blob ??= await range(path, begin, stop);
      expectBytes(path, begin, stop - begin, blob.size);
      return new Uint8Array(await blob.arrayBuffer());
    },
    async size(path) {
      const kept = whole.get(path);
      if (kept) return kept.size;
      // Asking for one byte tells the size wherever Range works; a HEAD's length may be that of compressed bytes.
      const response = await request(path, { headers: { Range: "bytes=0-0" } });
      if (!response) return null;
      if (response.status === 200) {
        const blob = await body(path, response);
        whole.set(path, blob);
        return blob.size;
      }
      await response.body?.cancel();
      const total = /\/(\d+)$/.exec(response.headers.get("content-range") ?? "")?.[1];
      if (total !== undefined) return Number(total);
      // Across origins, Content-Range is hidden unless the server exposes it; Content-Length never is.
      const head = await request(path, { method: "HEAD" });
      const length = head?.headers.get("content-length");
      if (head?.status === 200 && length) return Number(length);
      throw new CheckpointError(
        `${address(path).href} does not say how long it is, wanted Content-Range or Content-Length`,
      );
    },
  };
}

/** The innermost message: fetch hides "connect ECONNREFUSED" behind "fetch failed". */
export function reason(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  return error.cause instanceof Error && error.cause.message ? error.cause.message : error.message;
}

/** A value for a message, cut short: it may come from a hostile file. */
export function show(value: unknown): string {
  const text = value === undefined ? "absent" : JSON.stringify(value);
  return text.length > 60 ? `${text.slice(0, 57)}...` : text;
}
