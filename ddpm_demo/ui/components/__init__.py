"""Components of the page that several tabs use: the player, the sketch pad, the grid, the charts."""
