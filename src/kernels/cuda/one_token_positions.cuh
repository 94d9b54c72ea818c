#pragma once

// Which positions a CTA of one_token has of each kind of attention, where their keys and values
// lie, and the angles of the token's own: found once a step.

#include "kernels/cuda/one_token_ring.cuh"

namespace facet::cuda {

/// Sines and cosines of the token's position, for each kind of layer.
struct TokenRotation {
  float sines[OneTokenArgs::kKinds][kTokenAngles];
  float cosines[OneTokenArgs::kKinds][kTokenAngles];
};

/// What this CTA has of a kind's positions. One thread.
__device__ inline void find_task(const OneTokenArgs& args, int kind_index, TokenTask& task) {
  const OneTokenKind& kind = args.kinds[kind_index];
  const int position = args.positions[0];
  const int block = static_cast<int>(blockIdx.x) % kind.blocks;
  TileRows rows;
  rows.tokens = 1;
  rows.group = kind.q_heads / kind.kv_heads;
  rows.kv_head = static_cast<int>(blockIdx.x) / kind.blocks;
  rows.first_seen = kind.window > 0 ? max(0, position - kind.window + 1) : 0;
  rows.last_seen = position;
  task.rows = rows;
  task.kv_head = rows.kv_head;
  task.parts_a_piece =
      kind.window > 0 || (rows.last_part() + 1) * kind.kv_heads <= kFewTokenParts ? 1 : kSpanParts;
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

/// Where the CTA's positions of a kind lie. All threads, after find_task().
__device__ inline void find_kv_rows(const OneTokenArgs& args,
                                    int kind_index,
                                    const TokenTask& task,
                                    TokenKvRows& kv_rows) {
  const OneTokenKind& kind = args.kinds[kind_index];
  const int32_t* table = kind.pages + kind.table_begin[args.sequence_of_row[0]];
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
      row = (page * kind.kv_heads + task.kv_head) * kind.page_size + position % kind.page_size;
    }
    kv_rows.of[kind_index][i] = row;
  }
}

/// The angles of the token's position. All threads.
__device__ inline void find_rotation(const OneTokenArgs& args,
                                     int kind_index,
                                     TokenRotation& rotation) {
  const OneTokenKind& kind = args.kinds[kind_index];
  for (int i = static_cast<int>(threadIdx.x); i < kind.angles; i += kTokenThreads) {
    sincosf(__fmul_rn(static_cast<float>(args.positions[0]), kind.frequencies[i]),
            &rotation.sines[kind_index][i], &rotation.cosines[kind_index][i]);
  }
}

}  // namespace facet::cuda
