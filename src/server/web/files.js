// ---- Files that are dropped, pasted or chosen: text goes into the message under a line with its name.

const kMostFileBytes = 1 << 20;

/// What is wrong with `file`; "" if it may be text.
function fileFault(file) {
  if (file.type.startsWith("image/") && file.type !== "image/svg+xml") return `${file.name} is an image. This server takes no images.`;
  if (file.size > kMostFileBytes) return `${file.name} is larger than 1 MB.`;
  return "";
}

async function textOf(file) {
  try {
    const text = new TextDecoder("utf-8", { fatal: true }).decode(await file.arrayBuffer());
    return text.includes("\0") ? null : text.replaceAll("\r\n", "\n");
  } catch {
    return null;
  }
}

function asMessage(name, text) {
  const longest = Math.max(2, ...[...text.matchAll(/`+/g)].map(([ticks]) => ticks.length));
  const fence = "`".repeat(longest + 1);
  return `File ${name.replaceAll(/\s+/g, " ")}:\n${fence}\n${text.replace(/\n$/, "")}\n${fence}\n`;
}

async function addFiles(files) {
  for (const file of files) {
    const fault = fileFault(file);
    const text = fault === "" ? await textOf(file) : null;
    if (text === null) {
      toast(fault || `${file.name} is not text in UTF-8.`);
      continue;
    }
    const before = $("input").value.trimEnd();
    $("input").value = `${before === "" ? "" : `${before}\n\n`}${asMessage(file.name, text)}`;
    fit($("input"));
  }
  $("input").focus();
}

function wireFiles() {
  $("attach").onclick = () => $("files").click();
  $("files").onchange = async () => {
    await addFiles([...$("files").files]);
    $("files").value = "";
  };
  $("input").addEventListener("paste", (event) => {
    if (event.clipboardData.files.length === 0) return;
    event.preventDefault();
    addFiles([...event.clipboardData.files]);
  });
  document.addEventListener("dragover", (event) => { if (event.dataTransfer.types.includes("Files")) event.preventDefault(); });
  document.addEventListener("drop", (event) => {
    if (event.dataTransfer.files.length === 0) return;
    event.preventDefault();  // else the browser leaves the page for the file
    if (!isStatus()) addFiles([...event.dataTransfer.files]);
  });
}
