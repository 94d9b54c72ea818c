#include "traffic/plot.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <fmt/core.h>
#include <string_view>

namespace facet {
namespace {

constexpr double kPanelWidth = 330;
constexpr double kLeft = 56;  // of a panel, for the numbers of its y axis
constexpr double kRight = 18;
constexpr double kTop = 92;  // title, subtitle, legend, panel title
constexpr double kAxisHeight = 210;
constexpr double kBottom = 46;
constexpr double kLabelRoom = 26;  // between two numbers under the x axis
// Clear of both white and near-black backgrounds.
constexpr std::array<std::string_view, 3> kColours = {"#3d8bfd", "#e0892b", "#d8504d"};

std::string escape(std::string_view text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '&':
        out += "&amp;";
        break;
      case '"':
        out += "&quot;";
        break;
      default:
        out += static_cast<unsigned char>(c) < 0x20 ? ' ' : c;
    }
  }
  return out;
}

std::string label(double value) {
  if (value >= 10000) return fmt::format("{:g}k", value / 1000);
  return fmt::format("{:g}", value);
}

std::string text_at(double x, double y, std::string_view style, std::string_view text) {
  return fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" {}>{}</text>\n", x, y, style, escape(text));
}

std::string line(double x1, double y1, double x2, double y2, std::string_view style) {
  return fmt::format("<line x1=\"{:.1f}\" y1=\"{:.1f}\" x2=\"{:.1f}\" y2=\"{:.1f}\" {}/>\n", x1, y1,
                     x2, y2, style);
}

/// Where an x value lies on its axis, 0 to 1.
class XAxis {
 public:
  explicit XAxis(const std::vector<double>& x)
      : values_(x),
        doublings_(x.back() / x.front() >= 8),
        from_(doublings_ ? std::log2(x.front()) : 0),
        to_(doublings_ ? std::log2(x.back()) : x.back()) {}

  double at(double x) const { return ((doublings_ ? std::log2(x) : x) - from_) / (to_ - from_); }
  /// The values themselves where they double.
  std::vector<double> ticks() const {
    if (doublings_) return values_;
    std::vector<double> ticks = round_ticks(to_);
    std::erase_if(ticks, [&](double tick) { return tick > to_ * (1 + 1e-9); });
    return ticks;
  }

 private:
  const std::vector<double>& values_;  // the plot's
  bool doublings_;
  double from_;
  double to_;
};

double largest(const Panel& panel) {
  double most = 0;
  for (const Curve& curve : panel.curves) {
    for (const double y : curve.y) {
      if (std::isfinite(y)) most = std::max(most, y);
    }
  }
  return most > 0 ? most : 1;
}

/// Draws one panel whose axes begin at `left`.
class PanelDrawing {
 public:
  PanelDrawing(const Plot& plot, const Panel& panel, double left)
      : plot_(plot),
        panel_(panel),
        x_axis_(plot.x),
        ticks_(round_ticks(largest(panel))),
        left_(left),
        width_(kPanelWidth - kLeft - kRight) {}

  std::string draw() const {
    std::string out = text_at(left_, kTop - 14, "class=\"head\"", panel_.title);
    for (const double tick : ticks_) {
      out += line(left_, y_of(tick), left_ + width_, y_of(tick), "class=\"grid\"");
      out += text_at(left_ - 8, y_of(tick) + 4, "text-anchor=\"end\"", label(tick));
    }
    out += line(left_, kTop, left_, bottom(), "class=\"axis\"");
    out += line(left_, bottom(), left_ + width_, bottom(), "class=\"axis\"");
    double last = -kLabelRoom;
    for (const double tick : x_axis_.ticks()) {
      out += line(x_of(tick), bottom(), x_of(tick), bottom() + 4, "class=\"axis\"");
      if (x_of(tick) - last < kLabelRoom) continue;
      last = x_of(tick);
      out += text_at(last, bottom() + 17, "text-anchor=\"middle\"", label(tick));
    }
    out += text_at(left_ + width_ / 2, bottom() + 36, "text-anchor=\"middle\"", plot_.x_title);
    for (size_t i = 0; i < panel_.curves.size(); ++i)
      out += draw_curve(panel_.curves[i], kColours[i % kColours.size()]);
    return out;
  }

 private:
  static double bottom() { return kTop + kAxisHeight; }
  double x_of(double x) const { return left_ + width_ * x_axis_.at(x); }
  double y_of(double y) const { return bottom() - kAxisHeight * y / ticks_.back(); }

  std::string draw_curve(const Curve& curve, std::string_view colour) const {
    std::string path;
    std::string dots;
    bool gap = true;
    for (size_t i = 0; i < std::min(curve.y.size(), plot_.x.size()); ++i) {
      if (!std::isfinite(curve.y[i])) {
        gap = true;
        continue;
      }
      const double x = x_of(plot_.x[i]);
      const double y = y_of(curve.y[i]);
      path += fmt::format("{}{:.1f} {:.1f} ", gap ? 'M' : 'L', x, y);
      dots += fmt::format(
          "<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"3\" fill=\"{}\">"
          "<title>{}: {:.4g} at {:g}</title></circle>\n",
          x, y, colour, escape(curve.name), curve.y[i], plot_.x[i]);
      gap = false;
    }
    if (path.empty()) return {};
    path.pop_back();
    return fmt::format("<path d=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"2\"/>\n", path,
                       colour) +
           dots;
  }

  const Plot& plot_;
  const Panel& panel_;
  const XAxis x_axis_;
  const std::vector<double> ticks_;
  const double left_;
  const double width_;
};

/// The names of the panel with the most curves.
std::string legend(const Plot& plot) {
  const auto widest = std::max_element(
      plot.panels.begin(), plot.panels.end(),
      [](const Panel& a, const Panel& b) { return a.curves.size() < b.curves.size(); });
  std::string out;
  double x = kLeft;
  for (size_t i = 0; widest != plot.panels.end() && i < widest->curves.size(); ++i) {
    const std::string& name = widest->curves[i].name;
    out += line(x, 54, x + 18, 54,
                fmt::format("stroke=\"{}\" stroke-width=\"2\"", kColours[i % kColours.size()]));
    out += text_at(x + 24, 58, "", name);
    x += 24 + 7.0 * static_cast<double>(name.size()) + 18;
  }
  return out;
}

}  // namespace

std::vector<double> round_ticks(double most) {
  const double raw = most / 8;
  const double power = std::pow(10, std::floor(std::log10(raw)));
  double step = 10 * power;
  for (const double factor : {1, 2, 5}) {
    if (factor * power >= raw * (1 - 1e-9)) {
      step = factor * power;
      break;
    }
  }
  const auto count = static_cast<int>(std::ceil(most / step * (1 - 1e-9)));
  std::vector<double> ticks;
  for (int i = 0; i <= count; ++i) ticks.push_back(i * step);
  return ticks;
}

std::string svg(const Plot& plot) {
  const double width = kPanelWidth * static_cast<double>(plot.panels.size());
  const double height = kTop + kAxisHeight + kBottom;
  std::string out = fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{0:g}\" height=\"{1:g}\" "
      "viewBox=\"0 0 {0:g} {1:g}\" font-family=\"sans-serif\" font-size=\"12\">\n"
      "<title>{2}</title>\n<style>\n"
      "text {{ fill: #767676 }}\n.head {{ font-weight: bold }}\n"
      ".grid {{ stroke: #808080; stroke-opacity: 0.25 }}\n.axis {{ stroke: #808080 }}\n"
      "</style>\n",
      width, height, escape(plot.title));
  out += text_at(kLeft, 20, "font-size=\"15\" class=\"head\"", plot.title);
  out += text_at(kLeft, 38, "", plot.subtitle) + legend(plot);
  double left = kLeft;
  for (const Panel& panel : plot.panels) {
    out += PanelDrawing(plot, panel, left).draw();
    left += kPanelWidth;
  }
  return out + "</svg>\n";
}

}  // namespace facet
