// One small class per kind of failure. Messages are sentences that name the thing, the value found and the value wanted.

/** No WebGPU, or none of its adapters fits. */
export class AdapterError extends Error {
  override name = "AdapterError";
}

/** A tensor, size or plan that cannot be: a mistake of the caller. */
export class ShapeError extends Error {
  override name = "ShapeError";
}

/** An argument of the public interface that cannot be used. */
export class UsageError extends Error {
  override name = "UsageError";
}

/** WGSL that does not compile; `source` is numbered as the compiler saw it. */
export class ShaderError extends Error {
  override name = "ShaderError";
  readonly source: string;
  constructor(message: string, source: string) {
    super(message);
    this.source = source;
  }
}

/** Memory that was asked for and not to be had. Nothing of the request is left allocated. */
export class OutOfMemoryError extends Error {
  override name = "OutOfMemoryError";
  readonly askedBytes: number;
  readonly heldBytes: number;
  constructor(message: string, askedBytes: number, heldBytes: number) {
    super(message);
    this.askedBytes = askedBytes;
    this.heldBytes = heldBytes;
  }
}

/** The GPU device was lost; every call in flight and every later one is rejected with this. */
export class DeviceLostError extends Error {
  override name = "DeviceLostError";
  readonly reason: string;
  constructor(reason: string, message: string) {
    super(
      `the GPU device was lost (${reason || "unknown"}): ${message || "no message"}; create a new engine to go on`,
    );
    this.reason = reason;
  }
}
