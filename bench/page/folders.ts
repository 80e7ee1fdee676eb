// Folders that a person drops or picks.

export interface Folder {
  name: string;
  files: File[];
}

/** What was picked with `<input webkitdirectory>`; null where nothing was. */
export function pickedFolder(list: FileList | null): Folder | null {
  const files = [...(list ?? [])].filter((file) => !file.name.startsWith("."));
  if (files.length === 0) return null;
  return { name: files[0]!.webkitRelativePath.split("/")[0] || "chosen files", files };
}

/** Each folder that was dropped, and the files that were dropped by themselves as one. */
export async function droppedFolders({ items }: DataTransfer): Promise<Folder[]> {
  // entries are gone once the event is over
  const entries = [...items].flatMap((item) => item.webkitGetAsEntry() ?? []);
  const folders: Folder[] = [];
  const loose: File[] = [];
  for (const entry of entries) {
    if (entry.isDirectory)
      folders.push({ name: entry.name, files: await filesOf(entry as FileSystemDirectoryEntry) });
    else loose.push(await fileOf(entry as FileSystemFileEntry));
  }
  if (loose.length > 0) folders.push({ name: "dropped files", files: loose });
  return folders;
}

/** The files in a folder, not in those below: a checkpoint's lie side by side. */
async function filesOf(folder: FileSystemDirectoryEntry): Promise<File[]> {
  const reader = folder.createReader();
  const files: File[] = [];
  for (;;) {
    // a reader gives a hundred at a time, and none at the end
    const some = await new Promise<FileSystemEntry[]>((done, fail) => reader.readEntries(done, fail));
    if (some.length === 0) return files;
    for (const entry of some)
      if (entry.isFile && !entry.name.startsWith(".")) files.push(await fileOf(entry as FileSystemFileEntry));
  }
}

const fileOf = (entry: FileSystemFileEntry): Promise<File> =>
  new Promise((done, fail) => entry.file(done, fail));
