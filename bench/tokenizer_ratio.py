#!/usr/bin/env python3
"""Encodes a folder of texts with bench_tokenizer and with Hugging Face tokenizers, one core each,
in one run, and prints both speeds and their ratio. Fails if the two give different token counts.

usage: tokenizer_ratio.py BENCH_TOKENIZER TOKENIZER_JSON[.xz] FOLDER
needs: pip install tokenizers
"""

import lzma
import os
import pathlib
import subprocess
import sys
import tempfile
import time

os.environ["RAYON_NUM_THREADS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"


def hugging_face(json_path, folder):
    """(MB/s, tokens, MB): the better of two passes."""
    import tokenizers

    tokenizer = tokenizers.Tokenizer.from_file(json_path)
    texts = [path.read_bytes().decode() for path in sorted(pathlib.Path(folder).iterdir())]
    megabytes = sum(len(text.encode()) for text in texts) / 1e6
    best = 0.0
    for _ in range(2):
        start = time.perf_counter()
        tokens = sum(len(tokenizer.encode(text, add_special_tokens=False).ids) for text in texts)
        best = max(best, megabytes / (time.perf_counter() - start))
    return best, tokens, megabytes


def ours(program, json_path, folder):
    line = subprocess.run([program, json_path, folder], check=True, capture_output=True, text=True).stdout
    return {key: float(value) for key, value in (field.split("=") for field in line.split())}


def main():
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    program, json_path, folder = sys.argv[1:]
    with tempfile.TemporaryDirectory() as temporary:
        if json_path.endswith(".xz"):
            unpacked = os.path.join(temporary, "tokenizer.json")
            with lzma.open(json_path) as packed, open(unpacked, "wb") as out:
                out.write(packed.read())
            json_path = unpacked
        mine = ours(program, json_path, folder)
        their_speed, their_tokens, megabytes = hugging_face(json_path, folder)
    print(f"load            {mine['load_ms']:8.1f} ms")
    print(f"facet           {mine['mb_per_s']:8.2f} MB/s (first pass {mine['first_mb_per_s']:.2f})")
    print(f"tokenizers      {their_speed:8.2f} MB/s")
    print(f"ratio           {mine['mb_per_s'] / their_speed:8.1f} over {megabytes:.2f} MB")
    if mine["tokens"] != their_tokens:
        sys.exit(f"token counts differ: {mine['tokens']:.0f} and {their_tokens}")


if __name__ == "__main__":
    main()
