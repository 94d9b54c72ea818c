#pragma once

#include <string>
#include <vector>

namespace facet {

/// A line through one value per x; NaN leaves a gap.
struct Curve {
  std::string name;
  std::vector<double> y;
};

/// One pair of axes. Curves of the same number have the same colour in all panels.
struct Panel {
  std::string title;  ///< with the unit of y
  std::vector<Curve> curves;
};

/// Panels side by side over the same x.
struct Plot {
  std::string title;
  std::string subtitle;
  std::string x_title;
  std::vector<double> x;  ///< ascending, at least one, above 0
  std::vector<Panel> panels;
};

/// A picture that stands alone: no script, no font of its own, readable on light and on dark. x is
/// drawn in doublings where it spans a factor of 8 or more.
std::string svg(const Plot& plot);

/// Steps of 1, 2 or 5 times a power of ten from 0 to at least `most` > 0, 4 to 8 of them.
std::vector<double> round_ticks(double most);

}  // namespace facet
