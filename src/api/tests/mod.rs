mod ask;
mod fault;
mod operation;
