"""The look of the page: plain labels, one accent colour, and the fonts of the system, because the page works offline."""

import gradio as gr

ACCENT = gr.themes.Color(
    name="ember",
    c50="#fff4ef",
    c100="#ffe4d9",
    c200="#fdc9b5",
    c300="#f9a283",
    c400="#ee7148",
    c500="#d2441b",
    c600="#c23c15",
    c700="#a03011",
    c800="#7c270f",
    c900="#5c1d0c",
    c950="#371006",
)
FONTS = {"font": ["system-ui", "sans-serif"], "font_mono": ["ui-monospace", "monospace"]}
PAPER, INK, SUBDUED, LINE = "#ffffff", "#1b1c20", "#62646d", "#dcdce2"
PAPER_DARK, INK_DARK, SUBDUED_DARK, LINE_DARK = "#131417", "#ececef", "#a2a4ad", "#34363d"


def build_theme() -> gr.themes.Base:
    """Build the theme for light and dark. White text on the accent colour has a contrast of at least 4.5."""
    theme = gr.themes.Base(primary_hue=ACCENT, secondary_hue=ACCENT, neutral_hue="zinc", radius_size="md", **FONTS)
    surfaces = {
        "body_background_fill": (PAPER, PAPER_DARK),
        "background_fill_primary": (PAPER, PAPER_DARK),
        "background_fill_secondary": ("#f4f4f6", "#1e2024"),
        "block_background_fill": ("transparent", "transparent"),
        "body_text_color": (INK, INK_DARK),
        "body_text_color_subdued": (SUBDUED, SUBDUED_DARK),
        "block_info_text_color": (SUBDUED, SUBDUED_DARK),
        "block_title_text_color": (SUBDUED, SUBDUED_DARK),
        "block_label_text_color": (SUBDUED, SUBDUED_DARK),
        "border_color_primary": (LINE, LINE_DARK),
        "input_background_fill": (PAPER, "#1a1c20"),
        "input_border_color": (LINE, LINE_DARK),
        "checkbox_background_color": (PAPER, "#1a1c20"),
        "checkbox_border_color": ("#85878f", "#7c7e87"),
        "checkbox_label_background_fill": (PAPER, "#1a1c20"),
        "checkbox_label_background_fill_hover": ("#f4f4f6", "#26282d"),
        "checkbox_label_background_fill_selected": (INK, INK_DARK),
        "checkbox_label_text_color_selected": (PAPER, PAPER_DARK),
        "checkbox_label_border_color": (LINE, LINE_DARK),
        "button_secondary_background_fill": (PAPER, "#1a1c20"),
        "button_secondary_background_fill_hover": ("#f4f4f6", "#26282d"),
        "button_secondary_border_color": (LINE, LINE_DARK),
        "button_secondary_text_color": (INK, INK_DARK),
        "button_primary_background_fill": ("*primary_500", "*primary_500"),
        "button_primary_background_fill_hover": ("*primary_600", "*primary_600"),
        "button_primary_text_color": ("white", "white"),
        "slider_color": ("*primary_500", "*primary_500"),
        "block_border_width": ("0px", "0px"),
    }
    both = {name: light for name, (light, _) in surfaces.items()}
    both |= {f"{name}_dark": dark for name, (_, dark) in surfaces.items()}
    return theme.set(
        **both,
        color_accent="*primary_500",
        block_padding="0px",
        block_shadow="none",
        block_title_text_size="*text_sm",
        block_title_text_weight="400",
        block_info_text_size="*text_xs",
        button_border_width="1px",
        button_primary_border_color="transparent",
        button_large_padding="*spacing_md *spacing_lg",
        button_large_text_size="*text_md",
        checkbox_label_border_width="1px",
        checkbox_label_padding="*spacing_sm *spacing_md",
        checkbox_label_shadow="none",
        form_gap_width="0px",
        input_border_width="1px",
        input_shadow="none",
        layout_gap="*spacing_xl",
        section_header_text_size="*text_md",
    )
