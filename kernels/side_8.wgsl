// Cooperative matrices of 8 by 8, f16 times f16 added in f32.

const SIDE: u32 = 8u;

alias Left = coop_mat8x8<f16, A>;
alias Right = coop_mat8x8<f16, B>;
alias Sums = coop_mat8x8<f32, C>;
