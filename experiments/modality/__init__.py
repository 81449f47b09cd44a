"""A second matrix of the cells that is not RNA, carried by the mapping that RNA made."""
