#pragma once

// Which positions a CTA of few_tokens has of each kind of attention, where their keys and values
// lie, and the angles of the token's own: found once a step.

#include "kernels/cuda/few_tokens_ring.cuh"

namespace facet::cuda {

/// Sines and cosines of each token's position, for each kind of layer.
template <int T>
struct TokenRotation {
  float sines[FewTokensArgs::kKinds][T][kTokenAngles];
  float cosines[FewTokensArgs::kKinds][T][kTokenAngles];
};

/// What this CTA has of a token's positions of a kind. One thread.
__device__ inline void find_task(const FewTokensArgs& args,
                                 int kind_index,
                                 int token,
                                 TokenTask& task) {
  const FewTokensKind& kind = args.kinds[kind_index];
  const int position = args.positions[token];
  int block = static_cast<int>(blockIdx.x) % kind.blocks;
  // Short contexts are not on the same CTAs for all tokens, nor are their own positions.
  block = (block + token * kind.blocks / args.tokens) % kind.blocks;
  TileRows rows;
  rows.tokens = 1;
  rows.group = kind.q_heads / kind.kv_heads;
  rows.kv_head = static_cast<int>(blockIdx.x) / kind.blocks;
  rows.first_seen = kind.window > 0 ? max(0, position - kind.window + 1) : 0;
  rows.last_seen = position;
  task.rows = rows;
  task.parts_a_piece =
      kind.window > 0 || (rows.last_part() + 1) * kind.kv_heads <= args.few_parts ? 1 : kSpanParts;
  const auto deal = [&](const auto& pieces) {
    task.first_piece = pieces.first;
    task.pieces = pieces.count;
    task.piece = RowPiece::of(pieces, block, kind.blocks, kind.window > 0);
  };
  if (task.parts_a_piece == 1) {
    deal(Pieces<1>(rows));
  } else {
    deal(Pieces<kSpanParts>(rows));
  }
  const bool any = rows.kv_head < kind.kv_heads && task.piece.any();
  const int pieces = kind.window > 0 ? 1 : task.piece.count;
  task.first_part = any ? task.piece.late * task.parts_a_piece : 0;
  const int end = min(rows.last_part() + 1, task.first_part + pieces * task.parts_a_piece);
  task.parts = any ? end - task.first_part : 0;
  task.fresh = any && end == rows.last_part() + 1 ? position : -1;
}

/// Where the CTA's positions of a token and a kind lie. All threads, after find_task().
__device__ inline void find_kv_rows(
    const FewTokensArgs& args, int kind_index, int token, const TokenTask& task, int32_t* kv_rows) {
  const FewTokensKind& kind = args.kinds[kind_index];
  const int32_t* table = kind.pages + kind.table_begin[args.sequence_of_row[token]];
  const bool windowed = kind.window > 0;
  const auto seen = [&](int position) {
    return position >= task.rows.first_seen && position <= task.rows.last_seen;
  };
  const int count = task.parts == 0 ? 0 : windowed ? kPart : task.parts * 4;
  for (int i = static_cast<int>(threadIdx.x); i < count; i += kTokenThreads) {
    int position = task.first_part * kPart + i * (windowed ? 1 : 16);
    if (windowed && !seen(position) && task.piece.early >= 0)
      position = task.piece.early * kPart + i;
    int row = -1;
    if (seen(position)) {
      const int page = table[position / kind.page_size];
      row = (page * kind.kv_heads + task.rows.kv_head) * kind.page_size + position % kind.page_size;
    }
    kv_rows[i] = row;
  }
}

/// The angles of a token's position. All threads.
template <int T>
__device__ inline void find_rotation(const FewTokensArgs& args,
                                     int kind_index,
                                     int token,
                                     TokenRotation<T>& rotation) {
  const FewTokensKind& kind = args.kinds[kind_index];
  for (int i = static_cast<int>(threadIdx.x); i < kind.angles; i += kTokenThreads) {
    sincosf(__fmul_rn(static_cast<float>(args.positions[token]), kind.frequencies[i]),
            &rotation.sines[kind_index][token][i], &rotation.cosines[kind_index][token][i]);
  }
}

}  // namespace facet::cuda
